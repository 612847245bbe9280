"""`Usage`, which an application makes once. It connects settings, key directory, recorder and reader, and does no more."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Literal, Self, cast

from usage_middleware import signals
from usage_middleware.alerts.alerting import Alerting, targets_of
from usage_middleware.arguments import is_strict, settings_of
from usage_middleware.capture.capture import Capture
from usage_middleware.credentials import Credentials
from usage_middleware.options import NONE, DeliveryOptions, check_plain_function, handles_sigterm, spool_directory
from usage_middleware.plans.declared import declared_plans
from usage_middleware.record.corrections import Corrections
from usage_middleware.record.history import History
from usage_middleware.record.once import OnceWriter
from usage_middleware.record.recorder import Recorder
from usage_middleware.report.plan_directory import PlanDirectory
from usage_middleware.report.reports import Reports
from usage_middleware.report.viewer import Viewer
from usage_middleware.store.engine import Engine
from usage_middleware.store.key_directory import KeyDirectory
from usage_middleware.store.known_owners import KnownOwners
from usage_middleware.store.members import endpoint_member
from usage_middleware.store.own_keys import OwnKeys, require_directory
from usage_middleware.store.schema import Schema
from usage_middleware.store.unknown_keys import UnknownKeys
from usage_middleware.store.writer import Writer

if TYPE_CHECKING:
    from usage_middleware.alerts.delivery import Target
    from usage_middleware.capture.capture import Exclude
    from usage_middleware.capture.identity import Identify
    from usage_middleware.credentials import Place
    from usage_middleware.plans.declared import PlanOf
    from usage_middleware.plans.plan import Plan
    from usage_middleware.report.context import VisibleEndpoints
    from usage_middleware.store.keys import Directory
    from usage_middleware.store.pepper import PepperOption


class Usage:
    """Counts the requests of an application, and answers what was used.

    Making one does no input or output: connections, the embedded server and the flusher's thread begin with the first
    use, in whichever process that is.

    Args:
        redis: a URL (redis://, rediss://, unix://, redis+cluster://, redis+sentinel://) or a synchronous redis-py client;
            None: `$USAGE_REDIS_URL`, else the embedded server.
        namespace: the first segment of every key.
        credentials: where requests show their API keys: `bearer`, `basic-user`, the name of a header, `query:NAME`, or a
            callable(request) -> key or None. Name the place that your application checks. None: `x-api-key`, `apikey` and
            `bearer`.
        identify: callable(request) -> Caller or None, run after the application has answered; None: the key in `credentials`.
        keys: a key store of your own: an object with the methods of `store.keys.Directory`; None: the directory in Redis.
        pepper: keys the hash of credentials; None: `$USAGE_PEPPER`, else 32 random bytes kept once in Redis, where whoever
            reads Redis can test guesses of weak keys. `(new, old)` goes over from an old one as keys are seen; None in it is
            the one in Redis.
        dimensions: what calls may be tagged with.
        counters: what may be counted in a call.
        rates: name -> (counter, counter): a ratio of two counters, 0.0 where the second is 0.
        rank_by: the counter that ranks endpoints.
        untagged: the member of a call without a value in a dimension; for all, or for each by name.
        endpoint_label: callable(method, template) -> label, applied when reading.
        visible_endpoints: callable(viewer, labels) -> labels: which unused endpoints a viewer is shown.
        exclude: paths that are not counted (`/internal/*` for all below), or callable(request) -> bool.
        plans: what customers may use, and what it costs. `usage.plans.assign` says who has which.
        default_plan: the plan of organisations that have no other.
        plan_of: callable(organisation) -> `Assigned` or None, in place of `usage.plans.assign`. It is asked when somebody
            looks, never by a request, and its answer is kept for 60 s.
        on_alert: what is told of thresholds of quotas that are reached: a callable(`AlertEvent`), a `Webhook`, or several. In a
            thread of its own; an alert is created once, and delivered at least once.
        flush_interval: how old an unsent call may get, seconds.
        retention: how long counters are kept, where it differs from the default: {"board": {"day": timedelta(days=800)}}.
            Kinds are series, endpoint, key, board, key_board and history; layers minute, middle and day.
        slot_minutes: 30, or 15 for zones such as Nepal's.
        history: half-hours and days are packed, and kept for 800 days (`retention`, kind `history`); False: they are not.
        history_after: after how long days are packed.
        max_unknown_keys: how many API keys that no directory knows are counted apart; the rest is `(unknown)`.
        max_members: how many members a dimension may have in an organisation; for all, or for each by name.
        shards: splits a giant dimension's boards: {"key": 16}.
        operator_tree: False saves the counters of all organisations together.
        max_unknown_orgs: how many organisations that neither the key directory nor an assigned plan knows have counters of
            their own; beyond it they count as `(other)` in the operator's tree.
        backlog_bytes: how much memory unsent calls may take.
        shutdown_timeout: how long the last delivery may take, seconds.
        spool: a directory for what can't be delivered at shutdown; the next process of this machine sends it, once. None:
            `spool` in the embedded server's data directory, off with any other Redis. False: off. One directory for one
            Redis, on a local disk.
        journal: True writes everything into the spool before it is sent, so that a process that is killed loses no more
            than one flush interval. An fsync each flush.
        wait_replicas: how many replicas have to confirm a flush before its calls leave the memory. 0: none.
        sigterm: "auto" has SIGTERM raise `SystemExit(143)` in the main thread where it would end the process at once, so that
            what is left is delivered. Where an event loop runs, that is done before the process ends, and nothing is raised.
            Only the default action is replaced. False: SIGTERM is left alone.
        data_dir: where the embedded server has its data; None: `$USAGE_DATA_DIR`, else the user's own data directory.
        strict: True makes an undeclared dimension or counter an error; None: if `$USAGE_STRICT` is set or Python runs in
            development mode (`-X dev`). Else it is logged once and dropped.
        clock: seconds since the epoch, for tests.

    Raises:
        ConfigurationError: naming the option and what is allowed.

    Attributes:
        settings: the options on which all processes must agree, checked.
        credentials: where requests show their API keys.
        keys: the key directory.
        plans: which plan who has.
        remaining: what is left of a quota, from memory, see `alerts.alerting.Alerting.remaining`.
        reader: the reports of the views, for programs.
        recorder: what the middlewares record with.
        correct, backfill: change what was counted, and count calls of the past, see `record.corrections.Corrections`.
        pack_history, unpack_history: pack what is due, and write it back, see `record.history.History`.
        reconcile: compares the counters with each other, see `report.reports.Reports.reconcile`.
        engine: the connection.
    """

    def __init__(
        self,
        redis: object = None,
        *,
        namespace: str = "usage",
        credentials: Sequence[Place] | None = None,
        identify: Identify | None = None,
        keys: Directory | None = None,
        pepper: PepperOption = None,
        dimensions: Sequence[str] = (),
        counters: Sequence[str] = (),
        rates: Mapping[str, tuple[str, str]] | None = None,
        rank_by: str | None = None,
        untagged: str | Mapping[str, str] = NONE,
        endpoint_label: Callable[[str, str], str] | None = None,
        visible_endpoints: VisibleEndpoints | None = None,
        exclude: Exclude = None,
        plans: Iterable[Plan] = (),
        default_plan: str | None = None,
        plan_of: PlanOf | None = None,
        on_alert: Target | Sequence[Target] | None = None,
        flush_interval: float = 5.0,
        retention: Mapping[str, Mapping[str, timedelta | int]] | None = None,
        slot_minutes: int = 30,
        history: bool = True,
        history_after: timedelta = timedelta(days=35),
        max_unknown_keys: int = 100,
        max_members: int | Mapping[str, int] | None = None,
        shards: Mapping[str, int] | None = None,
        operator_tree: bool = True,
        max_unknown_orgs: int = 10_000,
        backlog_bytes: int = 64_000_000,
        shutdown_timeout: float = 5.0,
        spool: str | os.PathLike[str] | Literal[False] | None = None,
        journal: bool = False,
        wait_replicas: int = 0,
        sigterm: Literal["auto", False] = "auto",
        data_dir: str | os.PathLike[str] | None = None,
        strict: bool | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.clock = clock
        self.settings = settings_of(
            namespace=namespace,
            dimensions=dimensions,
            counters=counters,
            rates=rates,
            rank_by=rank_by,
            untagged=untagged,
            endpoint_label=endpoint_label,
            retention_changes=retention,
            slot_minutes=slot_minutes,
            history=history,
            history_after=history_after,
            max_unknown_keys=max_unknown_keys,
            max_members=max_members,
            shards=shards,
            operator_tree=operator_tree,
            max_unknown_orgs=max_unknown_orgs,
        )
        self.credentials = Credentials(credentials)
        self.engine = Engine(redis, data_dir=data_dir)
        own = KeyDirectory(self.engine, Schema(self.settings), pepper=pepper, clock=clock)
        #: Typed as our own. Another one may lack what `Directory` does not have, such as `put`.
        self.keys = own if keys is None else cast(KeyDirectory, require_directory(keys))
        #: The same, with failures of another one under its name.
        self._directory = own if keys is None else cast(KeyDirectory, OwnKeys(keys, own.unknown))
        declared = declared_plans(plans, default_plan, plan_of, self.settings)
        self.plans = PlanDirectory(self.engine, Schema(self.settings), declared, clock)
        self._known = KnownOwners(self._directory, own if keys is None else None, self.plans.orgs)
        delivery = DeliveryOptions(
            flush_interval=flush_interval,
            backlog_bytes=backlog_bytes,
            shutdown_timeout=shutdown_timeout,
            spool=spool_directory(spool, self.engine.embedded_data_dir),
            journal=journal,
            wait_replicas=wait_replicas,
            clock=clock,
            counted=lambda org: self._alerting.note(org),
        )
        self.recorder = self._recorder(delivery)
        self.capture = self._capture(identify, exclude, strict)
        self.recorder.open_calls = self.capture
        self.correct, self.backfill = self._corrections.correct, self._corrections.backfill
        self.pack_history, self.unpack_history = self._history.pack, self._history.unpack
        self.reader = self._reports(visible_endpoints)
        self.reconcile = self.reader.reconcile
        self._alerting = Alerting(self.reader, self.plans.declared, targets_of(on_alert))
        self.remaining = self._alerting.remaining
        _handle(sigterm)

    def _capture(self, identify: Identify | None, exclude: Exclude, strict: bool | None) -> Capture:
        return Capture(
            self.recorder,
            self.settings,
            identify=identify,
            exclude=exclude,
            credentials=self.credentials,
            strict=is_strict(strict),
            # uvicorn ends by the signal that it caught: what is registered with atexit would never run.
            at_shutdown=self.close,
        )

    def _recorder(self, options: DeliveryOptions) -> Recorder:
        return Recorder(
            Writer(lambda: self.engine.client, Schema(self.settings), self.engine.damage),
            options,
            resolve=self._directory.resolve,
            known_keys=self._known.keys,
            known_orgs=self._known.orgs,
            admit=UnknownKeys(self.engine, Schema(self.settings), self.clock).admit,
            credentials=self.credentials,
            routes=self.routes,
            rounds=self._history.rounds,
        )

    @cached_property
    def _history(self) -> History:
        schema = Schema(self.settings)
        return History(lambda: self.engine.client, schema, self.clock, self.engine.damage, self.engine.guard)

    @cached_property
    def _corrections(self) -> Corrections:
        writer = Writer(lambda: self.engine.client, Schema(self.settings))
        return Corrections(OnceWriter(writer, self._known.keys, self.engine.guard, self.clock), self.clock)

    def _reports(self, visible_endpoints: VisibleEndpoints | None) -> Reports:
        check_plain_function("visible_endpoints", visible_endpoints)
        return Reports(
            self.engine,
            Schema(self.settings),
            self._directory,
            self.clock,
            plans=self.plans,
            own_routes=self.routes,
            visible_endpoints=visible_endpoints,
            recorder_stats=self.recorder.stats,
        )

    def routes(self) -> dict[str, bool]:
        """The endpoints of the applications that this process's middlewares wrap, and whether their schema lists them."""
        found: dict[str, bool] = {}
        for method, template, public in self.capture.routes():
            name = endpoint_member(method, template)
            found[name] = public or found.get(name, False)
        return found

    def flush(self) -> bool:
        """Deliver now what was recorded so far. True if Redis has acknowledged all of it."""
        self.capture.finish_abandoned()
        return self.recorder.flush()

    def embed_token(self, viewer: Viewer, seconds: int = 900, *, audience: str, origin: str) -> str:
        """As `usage.reader.embed_token`: a token that shows the page to a customer inside of your own page."""
        return self.reader.embed_token(viewer, seconds, audience=audience, origin=origin)

    def close(self) -> None:
        """Deliver what is left, within `shutdown_timeout`, and close the connections to Redis. Closing twice is fine."""
        self.capture.finish_abandoned()
        self.recorder.close()
        self._alerting.close()
        self.engine.close()

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        """The same `Usage`: Litestar copies the routers that it registers, with all that their middlewares are given."""
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _handle(sigterm: object) -> None:
    if handles_sigterm(sigterm):
        signals.exit_on_sigterm()
