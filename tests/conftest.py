"""What applies to all tests."""

import gc


def pytest_collection_finish() -> None:
    """Exempt all objects that exist before the first test from garbage collection: they stay until the end.

    Without this, each collection in a long run looks at the objects of torch and of thousands of tests.
    """
    gc.collect()
    gc.freeze()
