"""Colours and scripts of the sections about runs."""

from __future__ import annotations

# Of the fifths of the runs by their metric, the worst first; dark on light, and light on dark.
FIFTHS = ("#d3bd8f", "#e09a4f", "#c7602c", "#8f3a6c", "#3d1f70")
FIFTHS_IN_THE_DARK = ("#54455e", "#80497f", "#bd5a78", "#ee8f5c", "#ffd682")
CARD, CARD_VARIABLE = "#fffffe", "--card"  # behind words that lines cross

_LIGHT = "".join(f"--fifth{i}: {colour};" for i, colour in enumerate(FIFTHS))
_DARK = "".join(f"--fifth{i}: {colour};" for i, colour in enumerate(FIFTHS_IN_THE_DARK))
STYLE = f"""
:root {{ {_LIGHT} }}
@media (prefers-color-scheme: dark) {{ :root {{ {_DARK} }} }}
.narrowing {{ display: flex; flex-wrap: wrap; gap: 6px 16px; align-items: center; margin-bottom: 8px; }}
.narrowing input.filter {{ margin: 0; }}
.narrowing label {{ white-space: nowrap; font-size: 14px; }}
.narrowing output {{ color: var(--quiet); font-size: 13px; }}
.figures {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(min(330px, 100%), 1fr)); gap: 12px 22px; }}
.figures svg {{ width: 100%; }}
.figures p {{ font-size: 13px; }}
.wide svg {{ width: 100%; min-width: 780px; max-width: none; }}
.scroll:has(> #runs) {{ max-height: 31rem; overflow: auto; }}
#runs th {{ position: sticky; top: 0; background: var(--card); z-index: 1; }}
#runs th:first-child {{ z-index: 2; text-align: left; }}
.legend i.of {{ display: inline-block; width: 11px; height: 11px; border-radius: 50%; margin-right: 5px; }}
.legend i.bar {{ display: inline-block; width: 22px; height: 8px; margin-right: 0; }}
td.short, td.name.short {{ min-width: 0; white-space: nowrap; }}
td.why {{ min-width: 240px; }}
td.bars {{ width: 45%; min-width: 120px; }}
td.name label {{ cursor: pointer; }}
td.name input {{ margin: 0 6px 0 0; vertical-align: -1px; }}
tr.lit td, tr.pinned td {{ background: var(--faint); }}
svg [data-mark] {{ cursor: default; }}
svg [data-mark].out {{ display: none; }}
.lighting svg [data-mark]:not(.lit, .pinned) {{ opacity: .12; }}
svg [data-mark]:is(.lit, .pinned) path {{ stroke-opacity: 1 !important; stroke-width: 3px; }}
.share {{ background: var(--blue); height: 11px; border-radius: 3px; min-width: 1px; margin-top: 5px; }}
"""

SCRIPT = """
{
  const marks = name => document.querySelectorAll(`[data-mark="${name}"]`);
  const rows = [...document.querySelectorAll("tr[data-mark]")];
  const lighting = () => document.body.classList.toggle(
    "lighting", document.querySelector("[data-mark]:is(.lit, .pinned)") !== null);
  const put = (name, kind, on) => { for (const one of marks(name)) one.classList.toggle(kind, on); lighting(); };
  for (const one of document.querySelectorAll("[data-mark]")) {
    one.addEventListener("mouseenter", () => put(one.dataset.mark, "lit", true));
    one.addEventListener("mouseleave", () => put(one.dataset.mark, "lit", false));
  }
  for (const row of rows) {
    const box = row.querySelector("input[type=checkbox]");
    box.disabled = false;
    box.addEventListener("change", () => put(row.dataset.mark, "pinned", box.checked));
  }
  const table = document.getElementById("runs");
  if (table) {
    const tell = () => {
      const left = rows.filter(row => !row.hidden).length;
      document.getElementById("runs-left").textContent = `${left} of ${rows.length}`;
      for (const row of rows) for (const one of marks(row.dataset.mark)) one.classList.toggle("out", row.hidden);
    };
    for (const one of document.querySelectorAll(".narrowing [hidden]")) one.hidden = false;
    table.addEventListener("narrowed", tell);
    tell();
  }
}
"""
