"""The figure of the rules of time, as SVG in either language."""

from __future__ import annotations

from html import escape

WIDTH, HEIGHT = 800, 560
MONTH = 20
AS_OF = 380
"""Where the as-of date stands; a month is `MONTH` wide."""

INK, SOFT, PAST, FUTURE, LAG, OUT = "#1f2937", "#5b6472", "#00796b", "#b5482a", "#8a6d00", "#9aa1ab"

WORDS = {
    "en": {
        "title": "Records, lookback, horizon, reporting lag and embargo on a time line",
        "one": "One prediction",
        "as_of": "as-of date",
        "lookback": "lookback: features",
        "horizon": "horizon: label",
        "used": "used: happened and known before the as-of date",
        "unknown": "not used: it had happened, but the office did not know yet",
        "outcome": "label 1: happened within the horizon",
        "after": "does not count: after the horizon",
        "key": "filled: event_date (it happened)   open: known_date (the office knew)",
        "two": "Training and test",
        "train": "latest training date",
        "test": "earliest test date",
        "lag": "reporting lag",
        "embargo": "embargo = horizon + reporting lag",
        "today": "on the test date every label learned from was known",
    },
    "zh": {
        "title": "时间轴：记录、回溯期、预测期、上报时滞与隔离期",
        "one": "一次评估",
        "as_of": "评估日",
        "lookback": "回溯期：计算特征",
        "horizon": "预测期：确定标签",
        "used": "采用：评估日以前已发生，也已获知",
        "unknown": "不采用：已经发生，但当时还不知道",
        "outcome": "标签为1：发生在预测期内",
        "after": "不计：发生在预测期之后",
        "key": "实心：发生日期（event_date）   空心：获知日期（known_date）",
        "two": "训练与检验",
        "train": "最后一个训练评估日",
        "test": "最早的检验评估日",
        "lag": "上报时滞",
        "embargo": "隔离期 = 预测期 + 上报时滞",
        "today": "到检验评估日，训练所用的标签都已知道",
    },
}


def draw_time(language: str) -> str:
    """The figure with the words of a language."""
    words = WORDS[language]
    parts = [*_draw_prediction(words), *_draw_embargo(words)]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f"font-family=\"system-ui, 'Noto Sans SC', 'Noto Sans CJK SC', 'Microsoft YaHei', sans-serif\" "
        f'font-size="15"><title>{escape(words["title"])}</title>'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>{"".join(parts)}</svg>\n'
    )


def _draw_prediction(words: dict[str, str]) -> list[str]:
    horizon_end = AS_OF + 12 * MONTH
    bottom = 335
    return [
        _write(20, 28, words["one"], weight=600),
        _line(AS_OF, 48, AS_OF, bottom, INK),
        _write(AS_OF, 42, words["as_of"], anchor="middle", weight=600),
        _bar(AS_OF - 12 * MONTH, 58, 12 * MONTH, PAST, words["lookback"]),
        _bar(AS_OF, 58, 12 * MONTH, FUTURE, words["horizon"]),
        _line(horizon_end, 48, horizon_end, bottom, SOFT, dash=True),
        *_record(130, 190, 250, words["used"], PAST),
        *_record(185, 330, 410, words["unknown"], OUT),
        *_record(240, 480, 540, words["outcome"], FUTURE),
        *_record(295, 650, 700, words["after"], OUT),
        _line(20, bottom, WIDTH - 20, bottom, INK),
        _write(20, bottom + 22, words["key"], colour=SOFT, size=13),
    ]


def _draw_embargo(words: dict[str, str]) -> list[str]:
    train, test = 120, 120 + 14 * MONTH + 20
    end, top = train + 12 * MONTH, 440
    return [
        _write(20, 396, words["two"], weight=600),
        _line(train, top - 12, train, top + 72, INK),
        _write(train, top - 20, words["train"], anchor="middle"),
        _bar(train, top, 12 * MONTH, FUTURE, words["horizon"]),
        _bar(end, top, 2 * MONTH, LAG, ""),
        _write(end + 2 * MONTH, top - 8, words["lag"], anchor="end", colour=LAG, size=13),
        _line(test, top - 12, test, top + 72, INK),
        _write(test + 8, top - 20, words["test"]),
        _bar(test, top, 12 * MONTH, FUTURE, words["horizon"]),
        _line(train, top + 48, end + 2 * MONTH, top + 48, LAG),
        _line(end + 2 * MONTH, top + 42, end + 2 * MONTH, top + 54, LAG),
        _write(
            (train + end + 2 * MONTH) / 2, top + 66, words["embargo"], anchor="middle", colour=LAG
        ),
        _line(20, top + 72, WIDTH - 20, top + 72, INK),
        _write(20, top + 96, words["today"], colour=SOFT, size=13),
    ]


def _record(y: float, event: float, known: float, text: str, colour: str) -> list[str]:
    """A record from the day it happened to the day the office knew, its text above."""
    # Texts of late records end at the edge.
    anchor, x = ("start", event - 6) if event < 450 else ("end", WIDTH - 20)
    return [
        _line(event, y, known, y, colour),
        f'<circle cx="{event}" cy="{y}" r="6" fill="{colour}"/>',
        f'<circle cx="{known}" cy="{y}" r="6" fill="#fff" stroke="{colour}" stroke-width="2"/>',
        _write(x, y - 13, text, anchor=anchor, colour=INK if colour != OUT else SOFT),
    ]


def _bar(x: float, y: float, width: float, colour: str, text: str) -> str:
    label = _write(x + width / 2, y + 18, text, anchor="middle", colour="#fff") if text else ""
    bar = f'<rect x="{x}" y="{y}" width="{width}" height="26" fill="{colour}"/>'
    return bar + label.replace(HALO, "")


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, *, dash: bool = False) -> str:
    style = ' stroke-dasharray="5 4"' if dash else ""
    return (
        f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{colour}" stroke-width="2"{style}/>'
    )


HALO = ' stroke="#fff" stroke-width="5" paint-order="stroke"'


def _write(
    x: float,
    y: float,
    text: str,
    *,
    anchor: str = "start",
    colour: str = INK,
    size: int = 15,
    weight: int = 400,
) -> str:
    return (
        f'<text x="{x}" y="{y}" text-anchor="{anchor}" fill="{colour}" font-size="{size}" '
        f'font-weight="{weight}" xml:space="preserve"{HALO}>{escape(text)}</text>'
    )
