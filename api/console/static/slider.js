// Renews the part that a form names in `data-slides` while its slider moves: one question at a time, the last one wins.

for (const form of document.querySelectorAll("form[data-slides]")) {
  const part = document.getElementById(form.dataset.slides);
  let asked = "", wanted = "";
  const there = () => `${form.action}?${new URLSearchParams(new FormData(form))}`;
  const ask = async () => {
    wanted = there();
    if (asked) return;
    while (wanted !== asked) {
      asked = wanted;
      try {
        const answer = await fetch(asked, { headers: { accept: "text/html" } });
        const its = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById(part.id);
        if (answer.ok && its && wanted === asked) part.replaceChildren(...its.childNodes);
      } catch {
        break;
      }
    }
    asked = "";
  };
  form.querySelector("button").hidden = true;
  form.addEventListener("input", ask);
  form.addEventListener("change", () => history.replaceState(null, "", there()));
}
