"""Direct gets: one, a batch, the last of several subjects."""

from __future__ import annotations

import json

from .talk import Talk, conversation


def stored(t: Talk) -> None:
    t.stream(allow_direct=True)
    t.store("s.a", "s.b", "s.a")
    t.store("s.c", With="headers")


def get(t: Talk, inbox: str, count: int, **fields: object) -> None:
    t.listen(inbox)
    t.publish("$JS.API.DIRECT.GET.S", json.dumps(fields).encode(), inbox)
    t.collect(inbox, count)


@conversation
def directly(t: Talk) -> None:
    stored(t)
    get(t, "a", 1, seq=2)
    get(t, "b", 1, seq=4)
    get(t, "c", 1, seq=9)
    get(t, "d", 1, last_by_subj="s.a")
    get(t, "e", 1, next_by_subj="s.a", seq=2)
    get(t, "f", 1, start_time="2000-01-01T00:00:00Z")
    t.ask("$JS.API.DIRECT.GET.S.s.b")
    t.ask("$JS.API.DIRECT.GET.S.nothing")


@conversation
def directly_and_wrong(t: Talk) -> None:
    stored(t)
    t.ask("$JS.API.DIRECT.GET.S", b"")
    t.ask("$JS.API.DIRECT.GET.S", b"{}")
    t.ask("$JS.API.DIRECT.GET.S", b"nonsense")
    get(t, "a", 1, seq=1, last_by_subj="s.a")
    get(t, "b", 1, last_by_subj="s.a", batch=2)
    get(t, "c", 1, seq=1, start_time="2000-01-01T00:00:00Z")


@conversation
def directly_where_it_is_not_allowed(t: Talk) -> None:
    t.stream()
    t.ask("$JS.API.DIRECT.GET.S", b'{"seq":1}')


@conversation
def a_batch(t: Talk) -> None:
    stored(t)
    get(t, "a", 3, seq=1, batch=2)
    get(t, "b", 3, seq=3, batch=9)
    get(t, "c", 3, seq=1, batch=9, next_by_subj="s.a")
    get(t, "d", 1, seq=9, batch=2)
    get(t, "e", 2, seq=1, batch=9, max_bytes=5)
    get(t, "f", 2, seq=2, batch=1)


@conversation
def the_last_of_each(t: Talk) -> None:
    stored(t)
    get(t, "a", 4, multi_last=["s.>"])
    get(t, "b", 3, multi_last=["s.a", "s.b"])
    get(t, "c", 3, multi_last=["s.>"], batch=2)
    get(t, "d", 3, multi_last=["s.>"], up_to_seq=2)
    get(t, "e", 1, multi_last=["x"])
    get(t, "f", 2, multi_last=["s.>"], seq=4)
    get(t, "g", 1, multi_last=["s.>"], next_by_subj="s.a")
