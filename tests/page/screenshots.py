"""Writes docs/images/page-*.png: the page over a Larder that has been under load for a while."""

import pathlib
import sys
import time

import stage

IMAGES = pathlib.Path(__file__).resolve().parents[2] / "docs/images"
# Seconds: the charts should have something to show.
LOAD = int(sys.argv[1]) if len(sys.argv) > 1 else 150
VIEWS = (
    ("light", {"viewport": {"width": 1280, "height": 1080}, "color_scheme": "light"}),
    ("dark", {"viewport": {"width": 1280, "height": 1080}, "color_scheme": "dark"}),
    ("phone", {"viewport": {"width": 360, "height": 760}, "color_scheme": "light", "device_scale_factor": 2}),
)


def main():
    IMAGES.mkdir(parents=True, exist_ok=True)
    with stage.demo(stage.LARDER, "--valkey") as demo, stage.browser() as browser:
        print(f"under load for {LOAD} s", flush=True)
        time.sleep(LOAD)
        for name, options in VIEWS:
            context = browser.new_context(**options)
            page = context.new_page()
            page.goto(demo.url)
            page.wait_for_selector("#saving tbody tr")
            page.wait_for_selector("#verdict[data-level=ok]")
            page.wait_for_timeout(1500)
            path = IMAGES / f"page-{name}.png"
            page.screenshot(path=path)
            print(path.relative_to(IMAGES.parents[1]), f"{path.stat().st_size // 1024} KiB")
            context.close()


main()
