"use strict";
(() => {
  const root = document.documentElement;
  const find = (id) => document.getElementById(id);
  const data = JSON.parse(find("data").textContent);
  const collator = new Intl.Collator(root.lang, { numeric: true });
  const rows = data.rows.map((row) => ({
    ...row,
    element: document.querySelector(`tr[data-order="${row.order}"]`),
    card: find(`card-${row.order}`),
    searched: row.searched.toLowerCase(),
  }));
  const byOrder = new Map(rows.map((row) => [row.order, row]));
  let shown = rows;
  let sorting = { key: "order", down: false };

  // Search, filters, sorting ---------------------------------------------------------------------
  const tiers = data.tiers;
  const last = "\uffff";
  const compare = {
    order: (a, b) => a.order - b.order,
    tier: (a, b) => tiers.indexOf(a.tier) - tiers.indexOf(b.tier) || a.order - b.order,
    household: (a, b) => collator.compare(a.household, b.household) || a.order - b.order,
    place: (a, b) => collator.compare(a.township, b.township) || collator.compare(a.village, b.village) || a.order - b.order,
    risk: (a, b) => (b.risk ?? -1) - (a.risk ?? -1) || a.order - b.order,
    due: (a, b) => ((a.due || last) < (b.due || last) ? -1 : (a.due || last) > (b.due || last) ? 1 : a.order - b.order),
  };

  function wanted(row) {
    const words = find("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    const place = find("place").selectedOptions[0].dataset;
    const tier = find("tier").value, kind = find("kind").value;
    return words.every((word) => row.searched.includes(word)) &&
      (place.township === undefined || place.township === row.township) &&
      (place.village === undefined || place.village === row.village) &&
      (!tier || tier === row.tier) && (!kind || row.kinds.includes(kind));
  }

  function update() {
    const direction = sorting.down ? -1 : 1;
    const sorted = [...rows].sort((a, b) => direction * compare[sorting.key](a, b));
    shown = sorted.filter(wanted);
    // Visits come before the reserve, as on the page.
    shown = [...shown.filter((row) => !row.reserve), ...shown.filter((row) => row.reserve)];
    const kept = new Set(shown);
    for (const row of sorted) {
      row.element.hidden = !kept.has(row);
      row.element.parentNode.append(row.element);
    }
    find("shown").textContent = fill(data.words.shown, { shown: shown.length, all: rows.length });
    find("printed").textContent = shown.length;
    for (const head of document.querySelectorAll("th[data-sort]")) {
      if (head.dataset.sort === sorting.key) head.setAttribute("aria-sort", sorting.down ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    }
    find("sort").value = sorting.key;
  }

  function fill(template, values) {
    return template.replace(/\{(\w+)\}/g, (_, name) => values[name]);
  }

  const tools = find("tools");
  tools.addEventListener("input", (event) => {
    if (event.target.id === "sort") sorting = { key: event.target.value, down: false };
    update();
  });
  tools.addEventListener("submit", (event) => event.preventDefault());
  find("clear").addEventListener("click", () => {
    tools.reset();
    sorting = { key: "order", down: false };
    update();
  });
  for (const head of document.querySelectorAll("th[data-sort] button")) {
    head.addEventListener("click", () => {
      const key = head.parentNode.dataset.sort;
      sorting = { key, down: sorting.key === key && !sorting.down };
      update();
    });
  }

  // The card of a household ----------------------------------------------------------------------
  const dialog = find("dialog"), holder = find("holder");
  let current = null;

  function open(row) {
    current = row;
    const copy = row.card.cloneNode(true);
    copy.removeAttribute("id");
    copy.style.removeProperty("--fit");
    holder.replaceChildren(copy);
    const at = shown.indexOf(row);
    find("position").textContent = fill(data.words.position, { at: at + 1, of: shown.length });
    find("previous").disabled = at <= 0;
    find("next").disabled = at < 0 || at >= shown.length - 1;
    if (!dialog.open) {
      // What had the focus gets it back when the dialog closes; a click on a row gives it to no link.
      row.element.querySelector("a").focus();
      dialog.showModal();
    }
    dialog.scrollTop = 0;
    holder.focus({ preventScroll: true });
  }

  function step(by) {
    const row = shown[shown.indexOf(current) + by];
    if (row) open(row);
  }

  dialog.addEventListener("close", () => {
    holder.replaceChildren();
    if (current) current.element.querySelector("a").focus();
    current = null;
  });
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") step(-1);
    if (event.key === "ArrowRight") step(1);
  });
  find("close").addEventListener("click", () => dialog.close());
  find("previous").addEventListener("click", () => step(-1));
  find("next").addEventListener("click", () => step(1));

  for (const body of document.querySelectorAll(".list tbody")) {
    body.addEventListener("click", (event) => {
      const element = event.target.closest("tr");
      if (!element || String(window.getSelection())) return;
      event.preventDefault();
      open(byOrder.get(Number(element.dataset.order)));
    });
    body.addEventListener("keydown", (event) => {
      const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      const element = by && event.target.closest("tr");
      if (!element) return;
      event.preventDefault();
      const next = shown[shown.indexOf(byOrder.get(Number(element.dataset.order))) + by];
      if (next) next.element.querySelector("a").focus();
    });
  }

  // The list is what is looked for on a phone; figures and explanations are one touch away.
  const more = find("more"), isOpen = () => window.innerWidth > 760;
  more.open = isOpen();

  // Printing -------------------------------------------------------------------------------------
  function prepare(mode) {
    root.dataset.print = mode;
    if (mode === "list") return;
    const printed = mode === "card" ? [current] : shown;
    const chosen = new Set(printed);
    for (const row of rows) row.card.classList.toggle("off", !chosen.has(row));
    for (const row of printed) row.card.parentNode.append(row.card);
    for (const row of rows) row.card.classList.toggle("last", row === printed[printed.length - 1]);
    fitCards(printed.map((row) => row.card));
  }

  function print(mode) {
    prepare(mode);
    window.print();
  }

  window.addEventListener("beforeprint", () => {
    more.open = true;
    if (!root.dataset.print && dialog.open) prepare("card");
  });
  window.addEventListener("afterprint", () => {
    more.open = isOpen();
    delete root.dataset.print;
  });
  find("print-list").addEventListener("click", () => print("list"));
  find("print-cards").addEventListener("click", () => print("cards"));
  find("print-card").addEventListener("click", () => print("card"));

  update();
})();
