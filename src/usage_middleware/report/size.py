"""How large an answer may be."""

from __future__ import annotations

from usage_middleware.errors import QueryError
from usage_middleware.store.answer_cache import MAX_ANSWER


def check_size(size: int) -> None:
    """Refuse an answer that nobody should have to download.

    Raises:
        QueryError: `answer_too_large`.
    """
    if size > MAX_ANSWER:
        raise QueryError(
            "answer_too_large",
            f"The answer would have {size / 1e6:.1f} MB, and {MAX_ANSWER / 1e6:.0f} MB are possible: ask for pages with limit= "
            "and offset=, where the view has them, for a shorter window or for wider buckets.",
        )
