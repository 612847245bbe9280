"""The plans that an application declares, and the function that may say who has which; checked once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple, TypeAlias

from usage_middleware.errors import ConfigurationError
from usage_middleware.options import Settings, check_plain_function
from usage_middleware.plans.assignment import Assigned
from usage_middleware.plans.plan import Plan
from usage_middleware.plans.reach import check_reach

#: An application's own answer to which plan an organisation has; None: the default plan.
PlanOf: TypeAlias = Callable[[str], Assigned | None]


class DeclaredPlans(NamedTuple):
    """What `Usage(plans=..., default_plan=..., plan_of=...)` says.

    Attributes:
        by_name: the plans.
        default: the plan of organisations without another; None: they have none.
        plan_of: who has which plan; None: what was assigned.
    """

    by_name: Mapping[str, Plan] = {}
    default: str | None = None
    plan_of: PlanOf | None = None

    @property
    def is_on(self) -> bool:
        """Whether there is any plan."""
        return bool(self.by_name)

    def plan(self, assigned: Assigned | None) -> Plan | None:
        """The plan that was assigned, with its overrides; None where there is none, or one that is not declared here."""
        found = None if assigned is None or assigned.plan is None else self.by_name.get(assigned.plan)
        return found if found is None or assigned is None else found.with_amounts(assigned.overrides)


def declared_plans(
    plans: Iterable[Plan], default_plan: str | None, plan_of: PlanOf | None, settings: Settings
) -> DeclaredPlans:
    """What these options mean.

    Raises:
        ConfigurationError: naming the option and what is allowed.
    """
    by_name: dict[str, Plan] = {}
    for plan in _listed(plans):
        if plan.name in by_name:
            raise ConfigurationError(f"plans: there are two of the name {plan.name!r}")
        plan.check_units(settings.counters)
        by_name[plan.name] = plan
    check_plain_function("plan_of", plan_of)
    if plan_of is not None and not by_name:
        raise ConfigurationError("plan_of says who has which plan, and there is none: plans=(Plan(...),)")
    if default_plan is not None:
        if default_plan not in by_name:
            names = ", ".join(by_name) or "(none is declared)"
            raise ConfigurationError(f"default_plan must be one of {names}, not {default_plan!r}")
        check_reach(by_name[default_plan], Assigned(plan=default_plan), settings)
    return DeclaredPlans(by_name, default_plan, plan_of)


def _listed(plans: Iterable[Plan]) -> list[Plan]:
    if isinstance(plans, Plan | str) or not isinstance(plans, Iterable):
        raise ConfigurationError(f"plans must be a list or tuple of Plan, not {plans!r}")
    found = list(plans)
    for plan in found:
        if not isinstance(plan, Plan):
            raise ConfigurationError(f"plans must be a list or tuple of Plan; {plan!r} is none")
    return found
