"""The web page in a real browser, over a real Larder under load."""

import unittest

import stage
from client import Client
from playwright.sync_api import expect

HOSTILE = "<img src=x onerror=window.hacked=1></code></td><script>window.hacked=1</script>"
# A longer name makes PostgreSQL say something, and what it says something to is not kept.
NAME = "<img src=x onerror=window.hacked=1></td>"


class Page(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.demo = cls.enterClassContext(stage.demo(stage.LARDER))
        cls.browser = cls.enterClassContext(stage.browser())

    def open(self, **options):
        """The page, in a window of its own; whatever it complains of is a failure."""
        context = self.browser.new_context(**({"viewport": {"width": 1280, "height": 900}} | options))
        self.addCleanup(context.close)
        page = context.new_page()
        page.set_default_timeout(20_000)
        self.complaints = []
        page.on("console", lambda message: self.complaints.append(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self.assertTrue(request.url.startswith((self.demo.url, "data:")), request.url))
        page.goto(self.demo.url)
        expect(page.locator("#contact-text")).to_have_text("live", timeout=20_000)
        return page

    def until(self, page, expression):
        """The page's policy forbids what Playwright's own way of waiting for an expression needs."""
        for _ in range(200):
            if page.evaluate(expression):
                return
            page.wait_for_timeout(100)
        self.fail(expression)

    def test_it_shows_live_numbers(self):
        page = self.open()
        expect(page.locator("#verdict")).to_have_attribute("data-level", "ok", timeout=20_000)
        expect(page.locator("#verdict-title")).to_contain_text("Serving. Every answer is at most")
        first = page.locator("#figure-rate-note").text_content()
        expect(page.locator("#figure-rate-note")).not_to_have_text(first, timeout=20_000)
        for place in ("#saving tbody tr", "#uncached tbody tr", "#reasons tbody tr", "#tables tbody tr", "#clients tbody tr", "#events li", ".tier"):
            expect(page.locator(place).first).to_be_visible()
        for chart in ("rate", "latency", "ratio", "lag"):
            expect(page.locator(f"#chart-{chart} path").first).to_be_attached()
            self.assertNotIn("NaN", page.locator(f"#chart-{chart} svg").inner_html())
        expect(page.locator("#reasons")).to_contain_text("it writes, defines, controls or inspects something")
        # With the keyboard alone.
        page.locator("#chart-rate .plot").focus()
        page.keyboard.press("ArrowLeft")
        expect(page.locator("#chart-rate .tip")).to_be_visible()
        self.assertEqual(self.complaints, [])

    def test_hostile_text_is_text(self):
        client = Client(self.demo.listen, "app", "app", "shop", HOSTILE)
        self.addCleanup(client.close)
        # It reads no table, so that no write of the load ends it.
        for _ in range(1000):
            client.query(f'select 1 as "{NAME}"')
            if client.query("show larder.last").startswith("hit"):
                break
        client.query(f'select now() as "{HOSTILE}", pg_sleep(0.3)')
        page = self.open()
        for place in ("#saving", "#uncached", "#clients"):
            expect(page.locator(place)).to_contain_text("<img src=x onerror=", timeout=20_000)
        self.assertEqual(page.locator("img").count(), 0)
        self.assertEqual(page.locator("script").count(), 1)
        self.assertIsNone(page.evaluate("window.hacked ?? null"))
        self.assertEqual(self.complaints, [])
        # Should it ever get there: nothing but what was compiled in may run, or be loaded.
        refused = page.evaluate("(() => { try { document.body.innerHTML = '<b>x</b>'; return false; } catch { return true; } })()")
        self.assertTrue(refused)
        self.assertIn("default-src 'none'", page.request.get(self.demo.url).headers["content-security-policy"])

    def test_operators_purge_deny_and_switch_with_the_token(self):
        page = self.open()
        page.get_by_role("button", name="Operate").click()
        page.get_by_role("button", name="Purge all").click()
        page.locator("#token").fill("wrong")
        page.locator("#dialog-confirm").click()
        expect(page.locator("#dialog-error")).to_have_text("Larder does not know this token.")
        page.locator("#token").fill(stage.TOKEN)
        page.locator("#dialog-confirm").click()
        expect(page.locator("#toast")).to_contain_text("Done: PURGE")
        expect(page.locator("#events")).to_contain_text("PURGE ALL", timeout=20_000)
        # From here on it is known.
        page.locator("#tables").get_by_role("button", name="Deny caching of public.customers").click()
        expect(page.locator("#dialog-token")).to_be_hidden()
        page.locator("#dialog-confirm").click()
        expect(page.locator("#rules")).to_contain_text("table public.customers", timeout=20_000)
        expect(page.locator("#reasons")).to_contain_text("denied", timeout=20_000)
        page.locator("#rules").get_by_role("button", name="Allow caching of table public.customers").click()
        page.locator("#dialog-confirm").click()
        expect(page.locator("#rules")).to_be_hidden(timeout=20_000)
        for mode, title in (("bypass", "Switched off"), ("shadow", "In the shadow"), ("serve", "Serving")):
            page.get_by_role("button", name="Operate").click()
            page.locator("#dialog-choices").get_by_role("button", name=f"Mode {mode}").click()
            page.locator("#dialog-confirm").click()
            expect(page.locator("#verdict-title")).to_contain_text(title, timeout=20_000)
        self.assertEqual(page.url, self.demo.url)
        self.assertEqual(page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]"), [0, 1, ""])
        # The wrong token was refused, which the browser says too.
        self.assertEqual([text for text in self.complaints if "401" not in text], [])

    def test_statements_that_differed_are_shown_and_can_be_reset(self):
        page = self.open()
        expect(page.locator("#saving tbody tr").first).to_be_visible(timeout=20_000)
        expect(page.locator("#mismatches-section")).to_be_hidden()
        row = {"fingerprint": "0123456789abcdef", "query": "select looked_up(id) from item where id = ?", "checks": 1234, "mismatches": 2, "switched_off": "verify_mismatch"}
        page.route("**/api/v1/queries?by=mismatches*", stage.answering([row]))
        for said in ("looked_up", "1,234", "2", "off"):
            expect(page.locator("#mismatches tbody tr")).to_contain_text(said, timeout=20_000)
        page.locator("#mismatches").get_by_role("button", name="Cache again").click()
        page.locator("#token").fill(stage.TOKEN)
        with page.expect_request("**/api/v1/deny") as asked:
            page.locator("#dialog-confirm").click()
        self.assertEqual(asked.value.post_data_json, {"query": row["fingerprint"], "cache": True})
        self.assertEqual(asked.value.headers["authorization"], f"Bearer {stage.TOKEN}")
        expect(page.locator("#toast")).to_contain_text("Done: ALLOW")
        page.unroute_all(behavior="ignoreErrors")
        page.route("**/api/v1/queries?by=mismatches*", stage.answering([row | {"switched_off": None}]))
        expect(page.locator("#mismatches tbody tr")).to_contain_text("on again", timeout=20_000)
        expect(page.locator("#mismatches").get_by_role("button", name="Cache again")).to_be_hidden()
        self.assertEqual(self.complaints, [])

    def test_without_a_token_it_says_how_to_get_one(self):
        page = self.open()
        page.route("**/api/v1/status", lambda route: self.without_token(route))
        self.until(page, "state.status && !state.status.admin.token")
        page.locator("#saving").get_by_role("button", name="Deny caching").first.click()
        expect(page.locator("#dialog-text")).to_contain_text("set token in section [admin]", ignore_case=True)
        expect(page.locator("#dialog-confirm")).to_be_hidden()

    def without_token(self, route):
        answer = route.fetch()
        route.fulfill(response=answer, json=answer.json() | {"admin": {"token": False}})

    def test_it_says_that_it_lost_contact_and_comes_back(self):
        page = self.open()
        page.route("**/api/**", lambda route: route.abort())
        expect(page.locator("#contact")).to_contain_text("no contact since", timeout=20_000)
        expect(page.locator("#announce")).to_contain_text("No contact with Larder")
        page.unroute_all(behavior="ignoreErrors")
        expect(page.locator("#contact-text")).to_have_text("live", timeout=20_000)

    def test_states_read_as_sentences(self):
        page = self.open()
        status = self.demo.get("/api/v1/status")
        lost = {"state": "disconnected", "findings": [{"code": "wal_level", "problem": "wal_level is replica", "remedy": "ALTER SYSTEM <b>"}]}
        for change, title, level in (
            ({"feed": status["feed"] | lost}, "the change feed is not connected", "warn"),
            ({"lease": {"holds": False, "remaining_seconds": 0}}, "the change feed is", "warn"),
            ({"origin": {"address": "db:5432", "reachable": False, "problem": "no answer"}}, "The database cannot be reached", "bad"),
            ({"draining": True}, "Draining", "warn"),
            ({"mode": "shadow", "verify": {"checks": 12, "mismatches": 0}}, "In the shadow", "wait"),
            ({"level": "linearizable"}, "as new as PostgreSQL's own", "ok"),
        ):
            # What comes of the change, not of the moment.
            base = status | {"lease": {"holds": True, "remaining_seconds": 1}} | change
            page.unroute_all(behavior="ignoreErrors")
            page.route("**/api/v1/status", stage.answering(base))
            expect(page.locator("#verdict-title")).to_contain_text(title, timeout=20_000)
            expect(page.locator("#verdict")).to_have_attribute("data-level", level)
            if "feed" in change:
                expect(page.locator("#findings")).to_contain_text("ALTER SYSTEM <b>")

    def test_it_rests_while_nobody_looks(self):
        page = self.open()
        page.evaluate("Object.defineProperty(document, 'hidden', { get: () => true })")
        # What was under way may still end.
        self.until(page, "!asking")
        heard = page.evaluate("state.heard")
        page.wait_for_timeout(2500)
        self.assertEqual(page.evaluate("state.heard"), heard)

    def test_it_fits_a_phone_and_the_dark(self):
        grounds = {}
        for scheme in ("light", "dark"):
            page = self.open(viewport={"width": 360, "height": 740}, color_scheme=scheme, reduced_motion="reduce")
            expect(page.locator("#saving tbody tr").first).to_be_visible(timeout=20_000)
            self.assertLessEqual(page.evaluate("document.documentElement.scrollWidth"), 360)
            worst = page.evaluate(CONTRAST)
            self.assertGreaterEqual(worst["ratio"], 4.5, worst)
            grounds[scheme] = page.evaluate("getComputedStyle(document.body).backgroundColor")
        self.assertNotEqual(grounds["light"], grounds["dark"])


# The least contrast of any text with what is behind it, by WCAG 2.
CONTRAST = """() => {
  const luminance = ([r, g, b]) => [r, g, b].map((c) => c / 255).map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, at) => sum + c * [0.2126, 0.7152, 0.0722][at], 0);
  const colour = (text) => (text.match(/[\\d.]+/g) ?? []).map(Number);
  const ground = (node) => {
    for (; node; node = node.parentElement) {
      const found = colour(getComputedStyle(node).backgroundColor);
      if (found.length === 3 || found[3] === 1) return found;
    }
    return [255, 255, 255];
  };
  let worst = { ratio: 21 };
  for (const node of document.querySelectorAll("main *:not(svg *), header *:not(svg *)")) {
    const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
    if (!own || !node.checkVisibility()) continue;
    const [a, b] = [luminance(colour(getComputedStyle(node).color)), luminance(ground(node))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < worst.ratio) worst = { ratio, text: node.textContent.slice(0, 40), tag: node.tagName, id: node.id, class: node.className };
  }
  return worst;
}"""


if __name__ == "__main__":
    unittest.main()
