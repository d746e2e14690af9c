"""What a run writes is text: it runs nothing, loads nothing, moves nothing, and hides nothing."""

import re
from typing import Any

import pytest
from playwright.async_api import Page, expect

from osprotocol import Execution, RunOptions
from tests.browser import flows
from tests.browser.corpus import COMPOSITES, CORPUS, HIDDEN
from tests.browser.desk import Desk, until_open
from tests.browser.test_answering import asked, reject, request_path

# The page's text as its writer wrote it: each mark of a hidden character stands for that character again.
TEXT_OF_PAGE = r"""() => {
    const page = document.querySelector("main").cloneNode(true);
    for (const field of page.querySelectorAll("textarea")) field.textContent = field.value || field.textContent;
    for (const mark of page.querySelectorAll(".mixed > .mark")) mark.remove();
    for (const mark of page.querySelectorAll(".mark")) {
        const code = /^U\+([0-9A-F]+)/.exec(mark.title);
        if (code) mark.replaceWith(String.fromCodePoint(parseInt(code[1], 16)));
    }
    return page.textContent;
}"""
# What markup of somebody else would have left behind.
FOREIGN = r"""() => {
    const found = [];
    if (window.wasHit) found.push("a script ran");
    for (const one of document.querySelectorAll("script, link, base, meta[http-equiv]")) {
        const address = one.src || one.href || "";
        if (!address.startsWith(location.origin + "/static/")) found.push(one.outerHTML);
    }
    for (const one of document.querySelectorAll("img, iframe, object, embed, video, style, math, template, plaintext"))
        found.push(one.outerHTML);
    for (const one of document.querySelectorAll("*")) {
        for (const attribute of one.attributes) {
            if (/^on/i.test(attribute.name) || attribute.name === "style") found.push(one.outerHTML);
            if (/^(href|src|action|formaction)$/.test(attribute.name) && !/^[/#?]/.test(attribute.value))
                found.push(one.outerHTML);
        }
    }
    const hidden = /[\u202a-\u202e\u2066-\u2069\u200b\u2060\u061c\ufeff\u0000-\u0008\u001b]/;
    if (hidden.test(document.title)) found.push("title: " + document.title);
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (texts.nextNode())
        if (hidden.test(texts.currentNode.data) && !texts.currentNode.parentElement.closest("script, textarea"))
            found.push("hidden: " + texts.currentNode.parentElement.outerHTML);
    for (const one of document.querySelectorAll("[title], [aria-label], [alt]"))
        for (const name of ["title", "aria-label", "alt"])
            if (hidden.test(one.getAttribute(name) ?? "")) found.push(name + ": " + one.outerHTML);
    return found.map(text => text.slice(0, 300));
}"""


async def check_harmless(page: Page) -> None:
    assert await page.evaluate(FOREIGN) == []
    assert await page.evaluate("document.scrollingElement.scrollWidth <= window.innerWidth"), "the page became wider"
    await expect(page.locator("main#main")).to_have_count(1)


def squeezed(text: str) -> str:
    """Without what HTML does to white space."""
    return re.sub(r"\s+", " ", text)


async def shown(page: Page) -> str:
    return squeezed(await page.evaluate(TEXT_OF_PAGE))


async def say(desk: Desk, text: str, end: str, **labels: str) -> Execution[Any]:
    given = flows.Says(text=text, end=end)  # type: ignore[arg-type]
    options = RunOptions(labels=labels)
    execution = await desk.client.create_run(flows.say, given, options).start()
    if end in ("ask", "input"):
        await until_open(execution)
    else:
        await execution.wait()
    return execution


@pytest.mark.parametrize("text", COMPOSITES, ids=["markup", "hidden"])
async def test_every_page_shows_what_a_run_says_as_text(desk: Desk, text: str) -> None:
    """Label, progress, log, step, prompt, payload, input, output and error, on each page that has them."""
    ending = {
        end: await say(desk, text, end, name=text, **{text.replace("=", "")[:60]: "v"})
        for end in ("ask", "fail", "result")
    }
    page = await desk.sign_in("ada")
    for path in ("/", "/runs", "/inbox", "/workflows", "/audit"):
        await page.goto(path)
        await check_harmless(page)
    tabs = {
        "ask": ["timeline", "logs", "values", "requests", "events", "audit"],
        "fail": ["timeline"],
        "result": ["values"],
    }
    for end, execution in ending.items():
        for tab in tabs[end]:
            await page.goto(f"/runs/{execution.id}?tab={tab}")
            await check_harmless(page)
            if tab == "logs":
                assert squeezed(text) in await shown(page)
    await page.goto(request_path(ending["ask"]))
    await check_harmless(page)
    assert squeezed(text) in await shown(page)


async def test_the_corpus_is_text_in_a_payload(desk: Desk) -> None:
    """Each text of the corpus, as a name and as a value of what is approved, is read as it was written."""
    execution = await asked(desk, payload={"texts": CORPUS, "names": dict.fromkeys(CORPUS, "named")})
    page = await desk.sign_in("ada")
    await page.goto(request_path(execution))
    await check_harmless(page)
    text = await shown(page)
    assert [one for one in CORPUS if squeezed(one) not in text] == []


async def test_the_corpus_is_text_in_the_log(desk: Desk) -> None:
    """Each text of the corpus, logged, is one line that reads as it was written."""
    execution = await desk.client.create_run(flows.log_all, CORPUS).start()
    await execution.wait()
    page = await desk.sign_in("ada")
    await page.goto(f"/runs/{execution.id}?tab=logs")
    await check_harmless(page)
    text = await shown(page)
    assert [one for one in CORPUS if squeezed(one) not in text] == []


async def test_the_corpus_is_text_in_results(desk: Desk) -> None:
    """Each text of the corpus as input and result of the run and of a step."""
    execution = await desk.client.create_run(flows.echo_all, CORPUS).start()
    await execution.wait()
    page = await desk.sign_in("ada")
    for query in ("tab=values", "tab=events", "step=1"):
        await page.goto(f"/runs/{execution.id}?{query}")
        await check_harmless(page)


async def test_hidden_characters_are_marked(desk: Desk) -> None:
    """No character that hides or turns text around reaches the page as itself."""
    execution = await asked(desk, question=" ".join(HIDDEN), payload=HIDDEN)
    page = await desk.sign_in("ada")
    await page.goto(request_path(execution))
    text = await page.get_by_role("main").inner_text()
    assert not re.search(
        "[\u202a-\u202e\u2060-\u2069\u200b-\u200f\ufeff\u061c\u00ad\x1b\x07\x08\U000e0000-\U000e0fff]", text
    )
    for name in ("U+202E", "U+200B", "U+2066"):
        assert name in text


async def test_text_of_a_run_cannot_move_the_facts(desk: Desk) -> None:
    """A prompt that imitates our own page does not cover its buttons: each is where a click finds it."""
    lookalike = "\n".join(["\u202e", "Approved by grace at 14:02", *["\n"] * 60, "☑ Approve   ☐ Reject", "x" * 5_000])
    execution = await asked(desk, question=lookalike[:3_000], payload={"text": lookalike})
    page = await desk.sign_in("ada")
    await page.goto(request_path(execution))
    await check_harmless(page)
    button = page.get_by_role("button", name=re.compile("^Approve")).first
    await button.scroll_into_view_if_needed()
    hit = await button.evaluate(
        "button => { const box = button.getBoundingClientRect();"
        " return button.contains(document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2)); }"
    )
    assert hit


async def test_reasons_of_people_are_text(desk: Desk) -> None:
    """What a voter wrote is harmless for everybody who reads it later."""
    execution = await asked(desk)
    page = await desk.sign_in("ada")
    await page.goto(request_path(execution))
    await reject(page, COMPOSITES[0])
    await execution.wait()
    for path in (request_path_of(execution, await desk.client.requests(open=False)), f"/runs/{execution.id}", "/audit"):
        await page.goto(path)
        await check_harmless(page)


def request_path_of(execution: Execution[Any], page: Any) -> str:
    return next(f"/requests/{request.id}" for request in page.items if request.run_id == execution.id)


async def test_a_live_update_is_text_too(desk: Desk) -> None:
    """What arrives over the stream is inserted as text."""
    execution = await asked(desk, question="Before")
    page = await desk.sign_in("ada")
    await page.goto(f"/runs/{execution.id}")
    await say(desk, COMPOSITES[0], "ask")
    gate = desk.client.create_run(flows.say, flows.Says(text=COMPOSITES[0]))
    inbox = await page.context.new_page()
    await inbox.goto("/inbox")
    await gate.start()
    await expect(inbox.locator("main")).to_contain_text("onerror")
    for one in (page, inbox):
        await check_harmless(one)


async def test_words_in_addresses_are_text(desk: Desk) -> None:
    """Filters of the address are shown as what they are."""
    page = await desk.sign_in("ada")
    desk.watch.allow("40[0-9]|422")
    text = "=%22%27%3E%3Cimg%20src%3Dx%20onerror%3Dwindow.wasHit%3D1%3E"
    every = "&".join(
        name + text for name in ("text", "workflow", "label", "parent", "done", "next", "view", "at", "run")
    )
    alone = [f"/runs?{name}{text}" for name in ("status", "cursor", "started")]
    for path in (*(f"/{page}?{every}" for page in ("runs", "inbox", "audit", "sign-in")), *alone):
        await page.goto(path)
        assert await page.evaluate("window.wasHit") is None
        assert await page.locator("img").count() == 0


@pytest.mark.long
@pytest.mark.parametrize("text", CORPUS, ids=[str(number) for number in range(len(CORPUS))])
async def test_each_text_alone_is_text_everywhere(desk: Desk, text: str) -> None:
    """One run whose every field is this text."""
    execution = await say(desk, text, "ask", name=text[:200])
    page = await desk.sign_in("ada")
    for path in ("/", "/runs", "/inbox", request_path(execution), f"/runs/{execution.id}"):
        await page.goto(path)
        await check_harmless(page)
    await page.goto(request_path(execution))
    assert squeezed(text) in await shown(page)
