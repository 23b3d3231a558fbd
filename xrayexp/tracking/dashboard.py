"""A saved W&B workspace that shows a project's runs at a glance: choices, memory, learning curves, findings."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xrayexp.errors import UserError
from xrayexp.tracking.finding_scores import finding_key, frequent_findings, runs_below
from xrayexp.tracking.run_folder import write_text
from xrayexp.tracking.trial_context import SWEEP
from xrayexp.tracking.wandb_session import NO_CRASH_REPORTS, missing_login, set_environment

if TYPE_CHECKING:
    from wandb_workspaces.reports.v2.interface import BarPlot, LinePlot, ScatterPlot
    from wandb_workspaces.workspaces import RunsetSettings, Section, Workspace

MOST_RUNS = 100  # in one panel; W&B's own 10 are less than a sweep
FINDINGS_A_PANEL = 10
ADAPTER, RANK, LEARNING_RATE = "adapter_name", "adapter_r", "lr"  # flat keys of the config, see loggers.FLAT
MEMORY, SECONDS, LOSS = "peak_memory_gib", "fit_seconds", "train/loss"
STEP = "trainer/global_step"


@dataclass(frozen=True)
class DashboardRequest:
    """What `xrayexp wandb-dashboard` is told.

    Attributes:
        project: on the server.
        entity: user or team on the server; None means the login's default.
        metric: what the runs are compared by, of validation or test; higher is better.
        group: only the runs of a sweep; None for all of the project.
        runs: folder with runs; their evaluations say which findings there are.
        out: file for the workspace.
        save: whether it is saved on the server.
    """

    project: str
    entity: str | None
    metric: str
    group: str | None
    runs: Path
    out: Path
    save: bool


@dataclass(frozen=True)
class Dashboard:
    """A workspace that is not yet saved.

    Attributes:
        workspace: of wandb-workspaces.
        findings: that it has bars for, the most frequent one first.
    """

    workspace: Workspace
    findings: Sequence[str]

    def to_json(self) -> str:
        """What the server is sent.

        The library has no public way to it; a test reads it back with the library.
        """
        return str(self.workspace._to_model().spec.model_dump_json(by_alias=True, exclude_none=True, indent=1))


def build(request: DashboardRequest) -> Dashboard:
    """The workspace, also written to a file. Needs no network.

    Raises:
        UserError: the library is not installed.
        DataError: the scores of a run cannot be read.
    """
    if find_spec("wandb_workspaces") is None:
        raise UserError("wandb-dashboard needs the package wandb-workspaces: pip install wandb-workspaces")
    findings = frequent_findings(runs_below(request.runs))
    dashboard = Dashboard(_workspace(request, findings), findings)
    write_text(request.out, dashboard.to_json() + "\n")
    return dashboard


def save(dashboard: Dashboard) -> str:
    """Saves a workspace on the server, as a new view of its project.

    Returns:
        Its address.

    Raises:
        UserError: there is no login, no answer, or no project of that name for this user.
    """
    import wandb
    from wandb.sdk.lib.service.service_connection import WandbApiFailedError

    workspace = dashboard.workspace
    with ExitStack() as undo:
        set_environment(NO_CRASH_REPORTS, undo)
        undo.callback(wandb.teardown)
        if missing := missing_login(wandb.setup().settings):
            raise UserError(f"--save needs a W&B login ({missing}): `wandb login`")
        try:
            workspace.entity = workspace.entity or wandb.Api().default_entity or ""
            workspace.save()  # type: ignore[no-untyped-call]
        except (wandb.errors.Error, WandbApiFailedError) as error:
            reason = str(error).partition("\n")[0].rstrip(".")
            raise UserError(
                f"W&B has not saved the workspace ({reason}): look at network, --entity and --project"
            ) from error
        return str(workspace.url)


def _workspace(request: DashboardRequest, findings: Sequence[str]) -> Workspace:
    import wandb_workspaces.workspaces as ws

    return ws.Workspace(
        name=f"{request.group or request.project} by {request.metric}",
        entity=request.entity or "",
        project=request.project,
        sections=[
            _choices(request.metric),
            _section("Memory and time", [_against(MEMORY, request.metric), _against(SECONDS, request.metric)]),
            _section("Learning curves by adapter", [_curve(_validated(request.metric)), _curve(LOSS)]),
            *([_section("F1 of findings by adapter", _bars(findings), columns=3)] if findings else []),
        ],
        settings=ws.WorkspaceSettings(max_runs=MOST_RUNS),
        runset_settings=_runs(request),
    )


def _runs(request: DashboardRequest) -> RunsetSettings:
    """The runs on the left: no summary of a sweep among them, the best one first."""
    import wandb_workspaces.workspaces as ws

    filters = [ws.Metric("JobType") != SWEEP]
    if request.group is not None:
        filters.append(ws.Metric("Group") == request.group)
    return ws.RunsetSettings(
        filters=ws.And(*filters),
        order=[ws.Ordering(ws.Summary(request.metric), ascending=False)],
        pinned_columns=[f"summary:{name}" for name in (request.metric, MEMORY, SECONDS)],
    )


def _section(name: str, panels: Sequence[Any], columns: int = 2) -> Section:
    import wandb_workspaces.workspaces as ws

    layout = ws.SectionLayoutSettings(columns=columns, rows=-(-len(panels) // columns))
    return ws.Section(name=name, panels=list(panels), is_open=True, layout_settings=layout)


def _choices(metric: str) -> Section:
    import wandb_workspaces.reports.v2.interface as wr

    column = wr.ParallelCoordinatesPlotColumn
    columns = [
        column(wr.Config(ADAPTER), display_name="adapter"),
        column(wr.Config(RANK), display_name="rank", log=True),
        column(wr.Config(LEARNING_RATE), display_name="learning rate", log=True),
        column(wr.SummaryMetric(metric)),
    ]
    together = wr.ParallelCoordinatesPlot(columns=columns, title=f"adapter, rank and learning rate: {metric}")
    return _section("Choices", [together, wr.ParameterImportancePlot(with_respect_to=metric)])


def _against(cost: str, metric: str) -> ScatterPlot:
    import wandb_workspaces.reports.v2.interface as wr

    return wr.ScatterPlot(title=f"{metric} by {cost}", x=wr.SummaryMetric(cost), y=wr.SummaryMetric(metric))


def _curve(metric: str) -> LinePlot:
    """Mean of each adapter's runs, with the range between the lowest and the highest."""
    import wandb_workspaces.reports.v2.interface as wr

    return wr.LinePlot(
        title=metric,
        x=STEP,
        y=[metric],
        groupby=wr.Config(ADAPTER),
        groupby_aggfunc="mean",
        groupby_rangefunc="minmax",
        max_runs_to_show=MOST_RUNS,
    )


def _validated(metric: str) -> str:
    """The metric that has a curve: those of the test split have none."""
    return f"val/{metric.removeprefix('test/')}" if metric.startswith("test/") else metric


def _bars(findings: Sequence[str]) -> list[BarPlot]:
    """Ten findings a panel, the most frequent ones first; a bar is the mean of an adapter's runs."""
    import wandb_workspaces.reports.v2.interface as wr

    starts = range(0, len(findings), FINDINGS_A_PANEL)
    return [
        wr.BarPlot(
            title=f"F1 of findings {start + 1} to {start + len(shown)} by frequency",
            metrics=[finding_key("test", finding) for finding in shown],
            groupby=wr.Config(ADAPTER),
            groupby_aggfunc="mean",
            max_runs_to_show=MOST_RUNS,
            max_bars_to_show=MOST_RUNS,
        )
        for start in starts
        for shown in [findings[start : start + FINDINGS_A_PANEL]]
    ]
