"""Code blocks of a page: found in order, with their flags; what breaks the conventions is an error with its line."""

from __future__ import annotations

import pytest

from scripts.devtools.markdown_blocks import BlockError, blocks_of

PAGE = """\
# Title

```bash
hotlap status
```

1. In a list:

   ```bash no-run reason="needs a game"
   hotlap --project game
     --epochs 3
   ```

~~~text
```bash
not a block
```
~~~

Inline ```` ``` ```` is not a fence, and neither is ```this```.

```bash checkout
pip install .
```
```bash background
hotlap
```
```json
{}
```
"""


def test_blocks_are_found_in_order():
    blocks = blocks_of(PAGE)
    assert [(block.line, block.language, block.action) for block in blocks] == [
        (3, "bash", "run"),
        (9, "bash", "not run: needs a game"),
        (14, "text", "only shown"),
        (22, "bash", "run checkout"),
        (25, "bash", "run background"),
        (28, "json", "parsed"),
    ]
    assert blocks[0].body == "hotlap status\n"
    assert blocks[1].body == "hotlap --project game\n  --epochs 3\n"
    assert blocks[2].body == "```bash\nnot a block\n```\n"


@pytest.mark.parametrize(
    ("info", "problem"),
    [
        ("", "has no language"),
        ("rust", "the language rust is unknown"),
        ("bash later", "a bash block cannot be later"),
        ("python background", "a python block cannot be background"),
        ("json checkout", "a json block cannot be checkout"),
        ("bash no-run", "no-run and reason="),
        ("bash no-run reason=''", "no-run and reason="),
        ('bash reason="slow"', "no-run and reason="),
        ('bash no-run reason="slow', "No closing quotation"),
        ("powershell", "a powershell block needs no-run"),
    ],
)
def test_a_block_that_breaks_the_conventions_is_an_error(info, problem):
    with pytest.raises(BlockError, match=f"line 3: .*{problem}"):
        blocks_of(f"text\n\n```{info}\nx\n```\n")


def test_a_block_that_is_not_closed_is_an_error():
    with pytest.raises(BlockError, match="line 2: the block is not closed"):
        blocks_of("text\n```bash\nhotlap\n")
