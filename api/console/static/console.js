// Pages work without this. It renews live parts, searches with `/`, shows local times, and asks before what can't be undone.

const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];

// Light or dark: the system's, until a person chooses.
const root = document.documentElement;
const remembered = localStorage.getItem("theme");
if (remembered) root.dataset.theme = remembered;
const theme = document.querySelector(".theme");
if (theme) {
  theme.hidden = false;
  theme.addEventListener("click", () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    localStorage.setItem("theme", root.dataset.theme);
  });
}

// `/` goes to the search, Escape leaves it.
document.addEventListener("keydown", (event) => {
  const search = document.getElementById("search");
  const typing = event.target.closest("input, textarea, select, [contenteditable]");
  if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault();
    search?.focus();
    search?.select();
  } else if (event.key === "Escape" && event.target === search) {
    search.blur();
  }
});

// Times are in UTC; where the pointer rests they are shown in the browser's zone.
const local = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long" });
function dress(part) {
  for (const each of $$("time[datetime]", part)) {
    const time = new Date(each.dateTime);
    if (!Number.isNaN(time.valueOf())) each.title = local.format(time);
  }
  for (const each of $$("[data-copy]", part)) {
    each.hidden = false;
    each.addEventListener("click", async () => {
      await navigator.clipboard.writeText(document.getElementById(each.dataset.copy).textContent);
      each.textContent = "Copied";
    });
  }
  for (const each of $$("input[data-must-be]", part)) {
    const button = each.form.querySelector("button:not([type])");
    const check = () => { button.disabled = each.value.trim() !== each.dataset.mustBe; };
    each.addEventListener("input", check);
    check();
  }
}
dress(document);

// Live parts: a message has HTML by the id of the element that holds it. What is selected or focused is left alone.
function isInUse(element) {
  const selection = getSelection();
  return element.contains(document.activeElement) || (!selection.isCollapsed && element.contains(selection.anchorNode));
}
for (const part of $$("[data-live]")) {
  let source = null;
  const open = () => {
    source ??= new EventSource(part.dataset.live);
    source.onmessage = ({ data }) => {
      for (const [id, html] of Object.entries(JSON.parse(data))) {
        const element = document.getElementById(id);
        if (!element || isInUse(element)) continue;
        element.innerHTML = html;
        dress(element);
        element.dispatchEvent(new CustomEvent("renewed", { bubbles: true }));
      }
    };
  };
  const close = () => { source?.close(); source = null; };
  // Nobody looks at a page that is behind others.
  const follow = () => (document.hidden ? close() : open());
  document.addEventListener("visibilitychange", follow);
  addEventListener("pagehide", close);
  follow();
}
