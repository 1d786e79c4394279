"""Colours, styles and scripts of the page."""

from pathlib import Path

import gradio as gr

CSS, ABOUT, FIGURE, PRESS = (
    Path(__file__).with_name(name).read_text(encoding="utf-8")
    for name in ("style.css", "about.md", "figure.svg", "press.js")
)
SCREEN = "() => [window.innerWidth > 640, window.location.search]"
"""What a page tells the server of itself when it opens."""
KEEP_ADDRESS = """() => {
  const link = document.querySelector('.pt-link');
  if (!link) return;
  const to = new URL(link.href), look = new URL(location).searchParams.get('__theme');
  if (look) to.searchParams.set('__theme', look);
  history.replaceState(null, '', to);
}"""
"""Puts the question and its settings into the page's address."""

THEME = gr.themes.Default(
    primary_hue="blue",
    font=[gr.themes.Font(name) for name in ("system-ui", "sans-serif")],
    font_mono=[gr.themes.Font(name) for name in ("ui-monospace", "monospace")],
).set(
    # Gradio's greys are too light to read with ease (WCAG asks for a contrast of 4.5).
    block_info_text_color="*neutral_700",
    block_info_text_color_dark="*neutral_200",
    block_label_text_color="*neutral_700",
    block_label_text_color_dark="*neutral_200",
    block_title_text_color="*neutral_800",
    block_title_text_color_dark="*neutral_100",
    body_text_color_subdued="*neutral_600",
    body_text_color_subdued_dark="*neutral_300",
    button_primary_background_fill="*primary_600",
    button_primary_background_fill_hover="*primary_700",
    button_primary_background_fill_dark="*primary_600",
    button_primary_background_fill_hover_dark="*primary_700",
)


def show(value: str, elem_id: str | None = None) -> gr.HTML:
    """A place for our own HTML, with our looks and no other, whose buttons speak to the server."""
    return gr.HTML(
        value, elem_id=elem_id, elem_classes="pt-html", js_on_load=PRESS, apply_default_css=False
    )
