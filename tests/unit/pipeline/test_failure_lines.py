from __future__ import annotations

from pathlib import Path

from pipeline.failure_lines import failure_line

ENDED = (
    "SLURM-job '53' failed, SLURM status is: 'TIMEOUT'. Detailed failure reason unavailable (status command is not "
    "'sacct').For further error details see the cluster/cloud log and the log files of the involved rule(s)."
)
REFUSED = (
    "SLURM sbatch failed. The error message was 'sbatch: error: Batch job submission failed: Invalid account'.\n"
    "    sbatch call:\n        sbatch --parsable --wrap=\"python -m snakemake 'x'\"\nFor further error details see"
)


def test_line_has_state_log_and_its_last_words(tmp_path: Path) -> None:
    log = tmp_path / "0.log"
    log.write_bytes(b"dpo seed 0: 1/40\rdpo seed 0: 3/40\nerror: pairs.npz: no such file\n\n")
    logs = [str(log), str(tmp_path / "53.log")]
    assert failure_line("train", ENDED, logs, "53") == (
        f"error: train failed (Slurm job 53, TIMEOUT): {log} ends with: error: pairs.npz: no such file"
    )
    assert failure_line("train", None, logs[:1]) == (
        f"error: train failed: {log} ends with: error: pairs.npz: no such file"
    )


def test_a_log_that_was_never_written_is_passed_over(tmp_path: Path) -> None:
    behind = tmp_path / "53.log"
    behind.write_text("slurmstepd: error: Unable to create TMPDIR\n")
    missing = str(tmp_path / "0.log")
    assert failure_line("train", ENDED, [missing, str(behind)], "53").endswith(
        f"{behind} ends with: slurmstepd: error: Unable to create TMPDIR"
    )
    assert failure_line("train", ENDED, [missing], "53") == (
        f"error: train failed (Slurm job 53, TIMEOUT): its log {missing} is empty"
    )


def test_a_refused_submission_says_what_sbatch_says_and_not_its_call(tmp_path: Path) -> None:
    log = tmp_path / "0.log"
    log.write_text("from an earlier run\n")
    assert failure_line("train", REFUSED, [str(log)]) == (
        "error: train: not submitted: sbatch: error: Batch job submission failed: Invalid account"
    )


def test_long_lines_are_cut(tmp_path: Path) -> None:
    log = tmp_path / "0.log"
    log.write_text("x" * 1000)
    assert failure_line("train", None, [str(log)]) == f"error: train failed: {log} ends with: {'x' * 299}…"


def test_what_a_process_says_counts_more_than_what_its_launchers_say(tmp_path: Path) -> None:
    log = tmp_path / "0.log"
    log.write_text(
        "dmpo seed 0: 0/4\nerror: pair 7 is damaged\nTraceback (most recent call last):\n"
        "torch.distributed.elastic.multiprocessing.errors.ChildFailedError:\n======\n"
        "srun: error: gpu08: task 1: Exited with exit code 1\n"
    )
    assert failure_line("train", None, [str(log)], "7").endswith("ends with: error: pair 7 is damaged")
    log.write_text("srun: error: Unable to create step\n")
    assert failure_line("train", None, [str(log)], "7").endswith("ends with: srun: error: Unable to create step")
