"use strict";
// Adds filters, sorting and the theme switch. The page reads in full without it.
(() => {
  const root = document.documentElement;
  const table = document.getElementById("scores");
  const form = document.getElementById("filters");
  const shown = document.getElementById("shown");
  const rows = [...table.querySelectorAll("tbody.number")].map((body) => ({
    body,
    text: `${body.rows[0].textContent} ${body.dataset.dataset}`.toLowerCase(),
    keys: [...body.rows[0].cells].map((cell) => cell.dataset.sort ?? ""),
  }));
  const groups = [...table.querySelectorAll("tbody.group")];
  const natural = [...table.tBodies];
  const headers = [...table.tHead.rows[0].cells].filter((th) => th.dataset.key);
  const sort = { key: "", descending: false };

  function matches(row, wanted) {
    return ["paper", "verdict", "budget"].every((name) => !wanted[name] || row.body.dataset[name] === wanted[name])
      && wanted.words.every((word) => row.text.includes(word));
  }

  function filter() {
    const fields = Object.fromEntries(new FormData(form));
    const wanted = { ...fields, words: fields.q.toLowerCase().split(/\s+/).filter(Boolean) };
    for (const row of rows) row.body.hidden = !matches(row, wanted);
    const visible = rows.filter((row) => !row.body.hidden);
    for (const group of groups) {
      group.hidden = Boolean(sort.key) || !visible.some((row) => row.body.dataset.paper === group.dataset.paper);
    }
    document.getElementById("nothing").hidden = visible.length > 0;
    shown.textContent = `Showing ${visible.length} of ${rows.length} numbers`;
  }

  function compare(column, numeric) {
    return (left, right) => {
      const [a, b] = [left.keys[column], right.keys[column]];
      if (a === "" || b === "") return (a === "") - (b === "");
      const order = numeric ? Number(a) - Number(b) : a.localeCompare(b, "en", { numeric: true });
      return sort.descending ? -order : order;
    };
  }

  function arrange() {
    for (const th of headers) {
      if (th.dataset.key === sort.key) th.setAttribute("aria-sort", sort.descending ? "descending" : "ascending");
      else th.removeAttribute("aria-sort");
    }
    const column = headers.findIndex((th) => th.dataset.key === sort.key);
    const numeric = column >= 0 && rows.every((row) => row.keys[column] === "" || !Number.isNaN(Number(row.keys[column])));
    const order = column < 0 ? natural : [...rows].sort(compare(column, numeric)).map((row) => row.body);
    table.append(...order);
  }

  // The state of the table lives in the address, so that a filtered view can be shared.
  function remember() {
    const state = new URLSearchParams([...new FormData(form)].filter(([, value]) => value));
    if (sort.key) state.set("sort", (sort.descending ? "-" : "") + sort.key);
    const hash = state.size ? `#scoreboard?${state}` : "#scoreboard";
    try { history.replaceState(null, "", hash); } catch { /* some browsers forbid it for local files */ }
  }

  function recall() {
    if (!location.hash.startsWith("#scoreboard?")) return reveal();
    const state = new URLSearchParams(location.hash.slice("#scoreboard?".length));
    for (const name of ["q", "paper", "verdict", "budget"]) form.elements[name].value = state.get(name) ?? "";
    const key = state.get("sort") ?? "";
    sort.descending = key.startsWith("-");
    sort.key = headers.some((th) => th.dataset.key === key.replace(/^-/, "")) ? key.replace(/^-/, "") : "";
    arrange();
    filter();
    document.getElementById("scoreboard").scrollIntoView();
  }

  // A link may point at a filtered-out row or into a closed fold-out.
  function reveal() {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    if (target.matches("tbody[hidden]")) reset();
    const details = target.matches("tbody.number") ? target.querySelector("details") : target.closest("details");
    if (details && !details.open) {
      details.open = true;
      target.scrollIntoView();
    }
  }

  function reset() {
    for (const name of ["q", "paper", "verdict", "budget"]) form.elements[name].value = "";
    sort.key = "";
    arrange();
    filter();
  }

  for (const th of headers) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = th.textContent;
    button.addEventListener("click", () => {
      sort.descending = sort.key === th.dataset.key && !sort.descending;
      sort.key = th.dataset.key;
      arrange();
      filter();
      remember();
    });
    th.replaceChildren(button);
  }
  form.addEventListener("input", () => { filter(); remember(); });
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", (event) => { event.preventDefault(); reset(); remember(); });
  for (const link of document.querySelectorAll("[data-show-verdict]")) {
    link.addEventListener("click", (event) => {
      event.preventDefault();
      reset();
      form.elements.verdict.value = link.dataset.showVerdict;
      filter();
      remember();
      document.getElementById("scoreboard").scrollIntoView();
    });
  }
  window.addEventListener("hashchange", recall);

  const toggle = document.getElementById("theme");
  const systemDark = matchMedia("(prefers-color-scheme: dark)");
  const stored = () => { try { return localStorage.getItem("neumix-theme"); } catch { return null; } };
  const theme = () => root.dataset.theme ?? (systemDark.matches ? "dark" : "light");
  const other = () => (theme() === "dark" ? "light" : "dark");
  const label = () => {
    toggle.textContent = other() === "dark" ? "Dark" : "Light";
    toggle.setAttribute("aria-label", `Use the ${other()} theme`);
  };
  if (stored()) root.dataset.theme = stored();
  toggle.addEventListener("click", () => {
    const chosen = other();
    // Back at what the system prefers, the page follows the system again.
    if (chosen === (systemDark.matches ? "dark" : "light")) delete root.dataset.theme;
    else root.dataset.theme = chosen;
    try { localStorage.setItem("neumix-theme", root.dataset.theme ?? ""); } catch { /* the choice lasts until reload */ }
    label();
  });
  systemDark.addEventListener("change", label);
  label();

  const links = new Map([...document.querySelectorAll(".bar a")].map((link) => [link.hash.slice(1), link]));
  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      const link = links.get(entry.target.id);
      if (entry.isIntersecting) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
  }, { rootMargin: "-30% 0px -69% 0px" });
  for (const id of links.keys()) watcher.observe(document.getElementById(id));

  form.hidden = false;
  toggle.hidden = false;
  filter();
  recall();
})();
