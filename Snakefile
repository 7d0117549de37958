# One benchmark from a config file to tables, report and MLflow:
#   snakemake --configfile config/miniature.yaml
# The config is checked as a whole before the first job; every job gets only what its command needs.
import os
import sys

from snakemake.logging import logger
from snakemake.utils import min_version

from artifacts.errors import InputError
from pipeline.captions import captioned
from pipeline.cli import DEFAULT_CONFIG
from pipeline.cluster_start import check_start
from pipeline.config import load
from pipeline.jobs import Plan
from pipeline.job_environment import prepare_jobs
from pipeline.job_resources import job_resources, training_resources
from pipeline.results_folder import check_writable
from pipeline.rule_functions import RuleFunctions
from pipeline.slurm_silence import outlast_silence
from pipeline.snakemake_log import shorten
from pipeline.stages import VERSIONS
from pipeline.termination import SHELL_PREFIX, pass_on_sigterm
from pipeline.workflow_process import record

min_version("9.27")


report: "workflow/report/workflow.rst"


prepare_jobs(os.getcwd(), on_cluster=workflow.remote_exec)
shell.prefix(SHELL_PREFIX)
if workflow.remote_exec:
    pass_on_sigterm(runs_command=lambda: workflow.local_exec)
# Before Snakemake takes its lock, so that no lock is without.
if workflow.is_main_process:
    record(os.getcwd())
    shorten(logger, os.getcwd(), verbose=workflow.output_settings.verbose)

configs = workflow.overwrite_configfiles or [DEFAULT_CONFIG]
if len(configs) > 1 or workflow.config_settings.config:
    sys.exit(
        "error: a benchmark is one config file: give one --configfile and no --config"
    )
config_file = os.path.relpath(configs[0])
try:
    PLAN = Plan(load(config_file, check_files=False))
except InputError as error:
    # Leaving here prints the lines alone, where an exception would add where in this file it was raised.
    sys.exit(
        f"{error}\n\n{len(str(error).splitlines())} error(s) in the config; nothing was run"
    )
try:
    check_writable(PLAN.root)
except InputError as error:
    sys.exit(f"error: {error}; nothing was run")
# Whether this is a dry run is not known yet. One does without weights, as --lint does, and so does the target
# `miniature`, which makes them; a spawned job's were checked by the main process.
missing_files = ""
if workflow.is_main_process:
    try:
        load(config_file)
    except InputError as error:
        missing_files = str(error)
        print(
            f"warning: not there yet, and nothing is run before they are:\n{missing_files}",
            file=sys.stderr,
        )
EXECUTION = PLAN.benchmark.execution
# There is a DAG when input functions are called.
RULES = RuleFunctions(
    PLAN,
    forced=(lambda: workflow.dag.forcefiles) if workflow.is_main_process else None,
)


# Not called by a dry run.
onstart:
    made_first = (
        job.rule.name.startswith("miniature") for job in workflow.dag.needrun_jobs()
    )
    if missing_files and not workflow.touch and not all(made_first):
        sys.exit(
            f"{missing_files}\n\n{len(missing_files.splitlines())} error(s) in the config; nothing was run"
        )
    if workflow.executor_plugin.name == "slurm":
        outlast_silence(sys.modules["snakemake_executor_plugin_slurm"])
        try:
            check_start(
                os.getcwd(),
                [job for job in workflow.dag.needrun_jobs() if not job.is_local],
                workflow.executor_settings,
            )
        except InputError as error:
            sys.exit(f"error: {error}; nothing was run")


# Called after a failure and after Ctrl-C, below all that Snakemake says of rules.
onerror:
    print(
        "The line that begins with `error:` says what is wrong. Type the same command again to go on: "
        "what is finished is kept, and a training goes on from its last checkpoint.",
        file=sys.stderr,
    )


localrules:
    all,


rule all:
    default_target: True
    input:
        PLAN.table_files(),
        PLAN.report_files(),
        PLAN.tracking_marker(),
    message:
        f"Done: {PLAN.root}"


include: "workflow/rules/prompts.smk"
include: "workflow/rules/pairs.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/generate.smk"
include: "workflow/rules/score.smk"
include: "workflow/rules/compare.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/track.smk"
include: "workflow/rules/audit.smk"
include: "workflow/rules/miniature.smk"
