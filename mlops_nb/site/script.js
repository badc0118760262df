// Zensical wraps a wide table in the browser, so that it scrolls on a phone; whoever has only a keyboard must reach it as well.
const reach = () => document.querySelectorAll(".md-typeset__scrollwrap").forEach(table => table.tabIndex = 0)
new MutationObserver(reach).observe(document.documentElement, { childList: true, subtree: true })
