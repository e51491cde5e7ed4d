"""What `scionlab import`, called in this process in an empty folder, did."""

from scionlab.errors import UserError
from scionlab.runs.store import RunStore


def rows_of(done, name="runs"):
    """The rows of an import that was taken."""
    assert done.exit_code == 0, done.exception
    return RunStore("results/runs").imports(name)


def refusal_of(done):
    """The sentence of one that was not."""
    assert isinstance(done.exception, UserError), (done.output, done.exception)
    return str(done.exception)
