"""Failures: commands that failed, by their causes, and jobs by which they are handled again."""

from typing import Annotated

from fastapi import Query, Request, Response

from api.console.commands import causes, jobs, looking
from api.console.commands.jobs import Item, Job
from api.console.commands.looking import PAGE
from api.console.live import Parts, live
from api.console.pages import Pages, back, form_of, fragment, page, service_of
from api.http.paging import MAX_INTEGER
from api.http.problems import Problem, not_found
from shared.stores import inbox

Before = Annotated[int | None, Query(ge=1, le=MAX_INTEGER)]
Skip = Annotated[int, Query(ge=0, le=1_000_000)]

router = Pages(section="Commands")


@router.get("/console/commands/failures", role="auditor", title="Failures by cause")
async def list_causes(request: Request, before: Before = None, skip: Skip = 0) -> Response:
    """Why commands failed, the most frequent cause first."""
    service = service_of(request)
    async with service.turn(request, service.log):
        found = await causes.groups(service, before=before)
    groups = list(found.by_digest.values())[skip : skip + PAGE]
    latest = await service.inbox.read(inbox.read, [each.seqs[0] for each in groups])
    return page(
        request,
        "failures.html",
        groups=groups,
        latest={each.seq: each for each in latest},
        found=found,
        total=len(found.by_digest),
        before=before,
        skip=skip,
        per_page=PAGE,
        jobs=await jobs.latest(service),
    )


@router.get("/console/commands/failures/{digest}", role="auditor", title="Failures by one cause")
async def show_cause(request: Request, digest: str, before: Before = None) -> Response:
    """The commands that failed by one cause, the latest first."""
    service = service_of(request)
    async with service.turn(request, service.log):
        found = await causes.groups(service, before=before)
    group = found.by_digest.get(digest)
    seqs = group.seqs if group else []
    commands = (await service.inbox.read(inbox.read, seqs[:PAGE]))[::-1]
    return page(
        request,
        "failures_one.html",
        group=group,
        digest=digest,
        found=found,
        before=before,
        next=seqs[PAGE - 1] if len(seqs) > PAGE else found.before,
        rows=await looking.rows(service, commands),
        again=await causes.retried(service),
        these=seqs[: jobs.MOST],
        job=jobs.new_nonce(),
    )


@router.post("/console/commands/jobs", role="operator", title="Retry")
async def begin_job(request: Request) -> Response:
    """Have many commands handled again."""
    form = form_of(request)
    nonce, seqs = form.get("job", ""), looking.seqs_in(form.get("these", ""))
    if not jobs.NONCE.fullmatch(nonce) or not seqs:
        raise Problem("malformed-form", 400, "This is no form that the console has.")
    job = await jobs.begin(request, nonce, seqs)
    return back(f"/console/commands/jobs/{job.id}")


@router.get("/console/commands/jobs/{job_id}", role="auditor", title="Retry")
async def show_job(request: Request, job_id: str, state: str = "", skip: Skip = 0) -> Response:
    """A job, and the result for each of its commands."""
    service = service_of(request)
    job = _job(request, job_id)
    async with service.turn(request, service.inbox):
        deeds = await jobs.deeds(service, job)
        items = await jobs.items(service, deeds)
    shown = [each for each in items if state in {"", each.state}]
    return page(
        request,
        "failures_job.html",
        job=job,
        items=shown[skip : skip + PAGE],
        counts=jobs.counted(items),
        accepted=len(items),
        by=items[0].deed if items else None,
        total=len(shown),
        state=state if state in jobs.STATES else "",
        skip=skip,
        per_page=PAGE,
    )


@router.get("/console/commands/jobs/{job_id}/live", role="auditor", title="Retry")
async def follow_job(request: Request, job_id: str, rows: Annotated[str, Query(max_length=1_100)] = "") -> Response:
    """What becomes of them; `rows` are the seqs of those deeds that the page shows."""
    service = service_of(request)
    job = _job(request, job_id)
    async with service.turn(request, service.inbox):
        waiting = await jobs.deeds(service, job)
    ended: list[Item] = []

    async def look() -> Parts:
        nonlocal waiting
        items = await jobs.items(service, waiting)
        waiting = [each.deed for each in items if each.state == "waiting"]
        ended.extend(each for each in items if each.state != "waiting")
        every = [*ended, *(each for each in items if each.state == "waiting")]
        counts = fragment(request, "failures_counts.html", job=job, counts=jobs.counted(every), accepted=len(every))
        shown = {f"result-{each.deed.seq}": each for each in every if str(each.deed.seq) in rows.split(".")}
        results = {id: fragment(request, "failures_result.html", item=each) for id, each in shown.items()}
        return {"counts": counts, **results}

    return live(request, look)


def _job(request: Request, id: str) -> Job:
    job = Job.named(id)
    if not job:
        raise not_found(request.url.path)
    return job
