"""Settings for all tests."""

import gc


def pytest_collection_finish() -> None:
    """Exempt all objects that exist before the first test from garbage collection.

    Otherwise each collection in a long run examines the objects of torch and of thousands of tests.
    """
    gc.collect()
    gc.freeze()
