"""What a customer may use, and what it costs: declarations and their arithmetic. Knows no Redis and no clock."""

from usage_middleware.plans.plan import Limit, Plan, Price, Quota

__all__ = ["Limit", "Plan", "Price", "Quota"]
