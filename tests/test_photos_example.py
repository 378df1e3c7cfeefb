"""The photo example does its job, reports what goes wrong in a stage, and ends on one Ctrl-C."""

import importlib.util
import multiprocessing
import os
import re
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
PACKAGES = ("numpy", "PIL", "skimage", "tqdm")
MISSING = [name for name in PACKAGES if importlib.util.find_spec(name) is None]

LIMIT = 3
BAR_SHOWN = rb"0%\|"
IMAGE_STORED = rb"\| [1-9][0-9]*/"  # the count on the bar, once it is not 0
HUNG_SECONDS = 120  # a watchdog for a run that would never end, far above any real one

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        bool(MISSING), reason=f"the photo example needs {', '.join(MISSING)}: not installed"
    ),
]


def command(*options: str) -> list[str]:
    return [sys.executable, str(EXAMPLES / "photos.py"), *options]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the example has run to its end."""
    folder = tmp_path_factory.mktemp("photos")
    limits = ("--limit", str(LIMIT), "--rounds", "1", "--backend", "manycore")
    done = subprocess.run(
        command(*limits), cwd=folder, capture_output=True, text=True, timeout=HUNG_SECONDS
    )
    assert done.returncode == 0, done.stderr
    assert f"Pipeline: {LIMIT} images" in done.stdout
    assert "Small jobs:" in done.stdout
    return folder / "out/photos/manycore"


@pytest.mark.parametrize("kind", ["denoised", "edges", "thumbnail"])
def test_every_photograph_has_an_image_of_each_kind(finished: Path, kind: str) -> None:
    from PIL import Image

    files = sorted((finished / kind).iterdir())
    assert len(files) == LIMIT
    for file in files:
        with Image.open(file) as image:
            assert image.format == "PNG"
            assert image.getextrema() not in [(0, 0), ((0, 0),) * 3], f"{file} is black"


def test_every_photograph_has_a_row_that_describes_its_source(finished: Path) -> None:
    import hashlib

    import skimage
    from PIL import Image

    catalogue = sqlite3.connect(finished / "catalogue.sqlite")
    rows = catalogue.execute(
        "SELECT name, width, height, mean_colour, sha256, seconds, worker_pid FROM photo"
    ).fetchall()
    catalogue.close()
    assert len(rows) == LIMIT
    for name, width, height, colour, digest, seconds, pid in rows:
        source = Path(skimage.__file__).parent / "data" / f"{name.removesuffix('-000')}.png"
        with Image.open(source) as image:
            assert (width, height) == image.size
            assert digest == hashlib.sha256(image.convert("RGB").tobytes()).hexdigest()
        assert colour.startswith("#") and len(bytes.fromhex(colour[1:])) == 3
        assert seconds > 0
        assert pid != os.getpid()


@pytest.mark.parametrize("moment", [BAR_SHOWN, IMAGE_STORED])
def test_one_interrupt_ends_it_and_every_process_it_started(tmp_path: Path, moment: bytes) -> None:
    with subprocess.Popen(
        command("--backend", "manycore"),
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=_hear_interrupts,
    ) as job:
        try:
            _read_until(job.stderr.fileno(), moment)
            os.killpg(job.pid, signal.SIGINT)
            # Every process of the job holds this pipe: its end means that all are gone.
            _, said = job.communicate(timeout=HUNG_SECONDS)
        except BaseException:
            os.killpg(job.pid, signal.SIGKILL)
            raise
    assert job.returncode == 130
    assert said.splitlines()[-1] == b"photos: interrupted"
    assert b"Traceback" not in said
    assert _members_of_session(job.pid) == []


def _read_until(descriptor: int, pattern: bytes) -> None:
    seen = b""
    while not re.search(pattern, seen):
        chunk = os.read(descriptor, 4096)
        assert chunk, f"ended before {pattern!r}: {seen.decode()}"
        seen += chunk


def _hear_interrupts() -> None:
    """Undoes what a shell has done to something that it runs beside itself."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _members_of_session(session: int) -> list[int]:
    """Return the pids in ``session`` that have not ended; a zombie has."""
    members = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            content = stat.read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue  # ended while we looked
        state, _parent, _group, its_session = content.rpartition(")")[2].split()[:4]
        if int(its_session) == session and state not in "ZX":
            members.append(int(stat.parent.name))
    return members


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch):
    """The example's pipeline module; forked children see what a test patches."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    with mock.patch.dict(os.environ):  # the package limits the threads of its process
        yield importlib.import_module("photos.pipeline")
    for name in [name for name in sys.modules if name.partition(".")[0] == "photos"]:
        del sys.modules[name]


@pytest.fixture(params=["multiprocessing", "manycore"])
def forking(request: pytest.FixtureRequest):
    """Each backend, with the start method that lets a test patch what a stage does."""
    return pytest.importorskip(request.param).get_context("fork")


def _crash(name: str, pixels: object) -> None:
    os._exit(3)


def _leave_early(name: str, pixels: object) -> None:
    os._exit(0)


def _be_killed(name: str, pixels: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _raise(name: str, pixels: object) -> None:
    raise ValueError(f"cannot develop {name}")


@pytest.mark.parametrize(
    ("develop", "end"),
    [(_crash, "exit code 3"), (_leave_early, "exit code 0"), (_be_killed, "SIGKILL")],
)
def test_a_dead_worker_fails_the_job_and_is_named(
    pipeline, forking, monkeypatch, tmp_path, develop, end
) -> None:
    from photos import sources, stages

    monkeypatch.setattr(stages, "develop", develop)
    with pytest.raises(pipeline.StageDied, match=f"transform stage died: .*transform-.*{end}"):
        pipeline.run_pipeline(forking, sources.find_photos(LIMIT), tmp_path, lambda: None)
    assert multiprocessing.active_children() == []


def test_an_error_names_the_stage_and_the_photograph(
    pipeline, forking, monkeypatch, tmp_path
) -> None:
    from photos import sources, stages

    photos = sources.find_photos(LIMIT)
    monkeypatch.setattr(stages, "develop", _raise)
    with pytest.raises(pipeline.PhotosFailed) as caught:
        pipeline.run_pipeline(forking, photos, tmp_path, lambda: None)
    message = str(caught.value)
    assert "transform stage" in message
    for photo in photos:
        assert photo.name in message
    assert "ValueError: cannot develop" in message
    assert multiprocessing.active_children() == []


def test_a_broken_file_costs_that_photograph_alone(pipeline, forking, tmp_path) -> None:
    from photos import sources, storage

    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    photos = [sources.Photo(broken, 0), *sources.find_photos(LIMIT)]
    with pytest.raises(pipeline.PhotosFailed, match="not stored: broken-000; the read stage"):
        pipeline.run_pipeline(forking, photos, tmp_path / "out", lambda: None)
    assert len(storage.read_rows(tmp_path / "out")) == LIMIT
