"""The programs of the page about other packages."""

import pytest

import documents

PROGRAMS = tuple(documents.programs(documents.OF_CLIENTS))


@pytest.mark.beyond_stdlib
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_a_program_of_a_page_runs_as_written(run_script, program):
    assert program.output
    done = run_script(program.source)
    assert (done.returncode, done.stdout, done.stderr) == (0, program.output, "")


def test_the_page_has_programs():
    assert len(PROGRAMS) > 4
