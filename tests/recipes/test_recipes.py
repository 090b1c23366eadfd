"""What the recipes show is run as it stands there; with_tools.py runs what wants tools of its own."""

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from doc_pages import RECIPES, TOP, blocks, text, write_files
from PIL import Image
from waiting import LIMIT, until

PROGRAMS = Path(sys.executable).parent
GALLERY = TOP / "examples/gallery"


def environment(*folders, **variables):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}
    path = os.pathsep.join([*map(str, folders), str(PROGRAMS), os.environ["PATH"]])
    return kept | {"PATH": path, "PENSTOCK_BUDGET": "400MiB"} | variables


def shell(command, cwd, code=0):
    """Run a line as a shell does; what it printed."""
    done = subprocess.run(
        ["bash", "-c", command], cwd=cwd, env=environment(), capture_output=True, text=True, timeout=LIMIT
    )
    assert done.returncode == code, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


# --------------------------------------------------------------------------- SLURM

HELD = """
import time
from pathlib import Path
import penstock

def features(item):
    Path(f"seen-{item}").touch()
    while item >= 40 and not Path("go").exists():
        time.sleep(0.02)
    return item

job = penstock.Job(source=penstock.sources.Range(60), function=features)
"""


def test_a_batch_job_is_requeued_before_its_limit_and_goes_on(tmp_path):
    write_files(RECIPES / "slurm.md", tmp_path)
    (tmp_path / "features.py").write_text(HELD)
    (tmp_path / "bin").mkdir()
    stand_in = tmp_path / "bin/scontrol"
    stand_in.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n')
    stand_in.chmod(0o755)
    told = environment(tmp_path / "bin", SLURM_JOB_ID="42")
    with open(tmp_path / "log", "wb") as log:
        job = subprocess.Popen(["bash", "features.sh"], cwd=tmp_path, env=told, stdout=log, stderr=log)
        try:
            until(lambda: any((tmp_path / f"seen-{item}").exists() for item in range(40, 60)))
            job.send_signal(signal.SIGTERM)  # as --signal=B: does, to the batch shell alone
            assert job.wait(LIMIT) == 143, text(tmp_path / "log")
        finally:
            job.kill()
            job.wait()
    assert text(tmp_path / "asked") == "requeue 42\n"
    (tmp_path / "go").touch()
    done = subprocess.run(
        ["bash", "features.sh"], cwd=tmp_path, env=told, capture_output=True, text=True, timeout=LIMIT
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert text(tmp_path / "asked") == "requeue 42\n", "one that is done is not put in the queue again"
    report = json.loads(text(tmp_path / "runs/features/report.json"))
    assert report["done"] == report["items"] == 60


def test_a_batch_job_that_cannot_go_on_is_not_requeued(tmp_path):
    write_files(RECIPES / "slurm.md", tmp_path)
    (tmp_path / "features.py").write_text("no Python\n")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/scontrol").write_text(f"#!/bin/sh\ntouch {tmp_path}/asked\n")
    (tmp_path / "bin/scontrol").chmod(0o755)
    done = subprocess.run(
        ["bash", "features.sh"], cwd=tmp_path, env=environment(tmp_path / "bin", SLURM_JOB_ID="42"),
        capture_output=True, text=True, timeout=LIMIT,
    )  # fmt: skip
    assert done.returncode == 4, done.stdout + done.stderr
    assert not (tmp_path / "asked").exists()


# --------------------------------------------------------------------------- files, workflow systems


def test_many_files_become_a_table_and_a_bad_one_is_set_aside(tmp_path):
    page = RECIPES / "many-files.md"
    write_files(page, tmp_path)
    for number in range(300):
        path = tmp_path / f"texts/{number % 7}/{number:03}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\xff\xfe" if number == 11 else b"word " * number)
    run, verify = [line[2:] for block in blocks(page) for line in block.text.splitlines() if line[:2] == "$ "]
    shell(run, tmp_path, code=5)
    assert "everything holds" in shell(verify, tmp_path)
    table = pq.read_table(tmp_path / "runs/table/results.parquet").to_pydict()
    assert sorted(table["words"]) == sorted(set(range(300)) - {11})


def words_of(page):
    """The commands of the workflow systems, each as a shell would get it."""
    told = {block.said: block.text for block in blocks(page)}
    script = re.search(r'"""\n(.*?)"""', told["file: main.nf"], re.S)[1]
    script = script.replace("${job}", "table.py").replace("${params.runs}", "runs/nextflow")
    script = script.replace("${task.memory.toBytes()}", str(1 << 30)).replace("${task.cpus}", "2")
    (airflow,) = [each for said, each in told.items() if said.startswith("not run: Airflow")]
    operator = re.search(r'bash_command="(.*)"', airflow)[1]
    operator = operator.replace("/srv/jobs/", "").replace("/srv/", "").replace("{{ ds_nodash }}", "20260101")
    (action,) = re.findall(r"run: (penstock .*)", told["file: .github/workflows/table.yml"])
    return {
        "nextflow": (textwrap.dedent(script), "table.parquet"),
        "airflow": (operator, "runs/table-20260101/results.parquet"),
        "actions": (action, "runs/table/results.parquet"),
    }


@pytest.mark.parametrize("system", ["nextflow", "airflow", "actions"])
def test_the_command_of_a_workflow_system_makes_the_table(system, tmp_path):
    page = RECIPES / "workflows.md"
    write_files(page, tmp_path)
    command, table = words_of(page)[system]
    assert "${" not in command
    assert "{{" not in command
    shell(command, tmp_path)
    assert pq.read_table(tmp_path / table)["square"].to_pylist() == [number**2 for number in range(1_000)]


# --------------------------------------------------------------------------- memory, containers, pictures


def test_one_item_of_a_job_is_called_alone(tmp_path):
    write_files(RECIPES / "memory-line.md", tmp_path)
    assert shell("python one_item.py mycode job 1", tmp_path).strip() == "30000"


def test_the_job_of_kubernetes_is_shown_as_it_is():
    (shown,) = [block.text for block in blocks(RECIPES / "containers.md") if block.language == "yaml"]
    assert shown + "\n" == text(TOP / "examples/kubernetes/job.yaml")


@pytest.mark.parametrize(
    ("name", "scale"), [("julia", 40), ("logistic", 4), ("walks", 4), ("spiral", 1), ("memory", 12)]
)
def test_an_example_of_the_gallery_draws_its_picture_and_resumes(name, scale, tmp_path):
    command = f"python -W error {GALLERY / name}.py --into {tmp_path} --scale {scale}"
    shell(command, tmp_path)
    picture = tmp_path / f"{name}.png"
    with Image.open(picture) as drawn, Image.open(RECIPES / f"pictures/{name}.png") as shown:
        assert drawn.width > 500
        assert abs(drawn.width - shown.width) < 60
        assert len(drawn.convert("RGB").getcolors(1 << 20)) > 20, "more than a blank sheet"
    if name in ("julia", "walks"):  # kept as arrays, and summed up
        before = picture.read_bytes()
        shell(command, tmp_path)
        assert picture.read_bytes() == before
        assert json.loads(text(tmp_path / name / "report.json"))["done"] > 0


def test_every_example_is_in_the_gallery():
    page = text(RECIPES / "gallery.md")
    names = {path.stem for path in GALLERY.glob("*.py")} - {"drawing"}
    assert len(names) == 5
    assert [
        name for name in names if f"(pictures/{name}.png)" not in page or f"`{name}.py`" not in page
    ] == []
