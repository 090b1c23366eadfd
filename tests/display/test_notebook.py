"""A notebook, executed by a kernel of its own: progress, prints and tracebacks as its reader sees them."""

import pytest

from penstock.budget import MiB
from penstock.display.notebook import as_html
from penstock.report.live import LiveState

nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")  # of the kernel and its client

FIRST = """
import penstock

def half(x):
    print(f"working on {x}")
    return x / 2

report = penstock.run(half, 4, workers=1)
report.result
"""
SECOND = """
def broken(x):
    if x == 2:
        raise ValueError("no header in this item")
    return x

penstock.run(broken, 4, workers=1, progress=False)
"""


def executed(*cells):
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbclient.NotebookClient(book, timeout=800, kernel_name="python3", allow_errors=True).execute()
    return [cell.outputs for cell in book.cells]


@pytest.fixture(scope="module")
def outputs():
    return executed(FIRST, SECOND)


def test_a_cell_shows_how_it_goes_what_its_function_prints_and_its_result(outputs):
    first = outputs[0]
    (drawn,) = [out for out in first if out.output_type == "display_data"]
    assert "<progress" in drawn["data"]["text/html"]
    assert "4 of 4 items" in drawn["data"]["text/html"]  # the same display, to its end
    printed = "".join(out.text for out in first if out.output_type == "stream" and out.name == "stdout")
    assert sorted(printed.splitlines()) == [f"worker: working on {x}" for x in range(4)]
    assert not any(out.output_type == "stream" and out.name == "stderr" for out in first)
    (result,) = [out for out in first if out.output_type == "execute_result"]
    assert result["data"]["text/plain"] == "[0.0, 0.5, 1.0, 1.5]"


def test_a_function_that_raises_shows_its_own_line(outputs):
    (error,) = [out for out in outputs[1] if out.output_type == "error"]
    assert error.ename == "FunctionRaised"
    text = "\n".join(error.traceback)
    assert 'raise ValueError("no header in this item")' in text
    assert "item 2" in text


def test_the_bar_is_plain_html_in_which_nothing_is_obeyed():
    state = LiveState()
    state.began, state.stage, state.items, state.done, state.budget = True, "<b>", 10, 3, MiB
    state.failures.append((0.0, "<script>1</script>"))
    drawn = as_html(state, 1.0)
    assert "<b>" not in drawn
    assert "<script" not in drawn
    assert 'value="3" max="10"' in drawn
