"use strict";
(() => {
  const PAGE = 100;
  const table = document.getElementById("failures");
  if (!table) return;
  const body = table.tBodies[0];
  const rows = Array.from(body.rows, (row) => ({ row, text: row.textContent.toLowerCase() }));
  const tools = document.getElementById("tools");
  const search = document.getElementById("search");
  const kind = document.getElementById("kind");
  const found = document.getElementById("found");
  const more = document.getElementById("more");
  let limit = PAGE;

  const show = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const { row, text } of rows) {
      const fits = (!kind.value || row.dataset.kind === kind.value) && words.every((word) => text.includes(word));
      row.hidden = !fits;
      row.classList.toggle("later", fits && count >= limit);
      count += fits;
    }
    const n = (value) => value.toLocaleString("en");
    found.textContent = count > limit ? `${n(limit)} of ${n(count)} shown` : count === rows.length
      ? `${n(count)} shown` : `${n(count)} of ${n(rows.length)} match`;
    more.hidden = count <= limit;
    more.textContent = `Show ${n(Math.min(count - limit, PAGE * 5))} more`;
  };

  const sort = (column, descending) => {
    const value = ({ row }) => row.cells[column].dataset.v ?? row.cells[column].textContent.trim().toLowerCase();
    const numeric = table.tHead.rows[0].cells[column].dataset.type === "number";
    const sign = descending ? -1 : 1;
    const keyed = rows.map((entry) => [value(entry), entry]);
    keyed.sort(([a, one], [b, other]) => {
      if (a === b) return one.row.cells[0].dataset.v - other.row.cells[0].dataset.v;
      // What is not known goes last, whichever way.
      if (a === "" || b === "") return a === "" ? 1 : -1;
      return sign * (numeric ? a - b : a < b ? -1 : 1);
    });
    rows.splice(0, rows.length, ...keyed.map(([, entry]) => entry));
    body.append(...rows.map(({ row }) => row));
    show();
  };

  const order = document.getElementById("order");
  const heads = Array.from(table.tHead.rows[0].cells);
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    button.addEventListener("click", () => {
      const descending = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((one) => one.setAttribute("aria-sort", "none"));
      head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      sort(column, descending);
    });
    order.add(new Option(head.textContent, column));
    head.replaceChildren(button);
  });
  order.addEventListener("change", () => heads[order.value].firstChild.click());

  const showFirst = () => { limit = PAGE; show(); };
  search.addEventListener("input", showFirst);
  kind.addEventListener("change", showFirst);
  more.addEventListener("click", () => { limit += PAGE * 5; show(); });
  tools.hidden = false;

  // A page that the run writes again is loaded again: what the reader was looking for stays.
  try {
    const kept = JSON.parse(sessionStorage.getItem("table") ?? "{}");
    search.value = kept.search ?? "";
    kind.value = kept.kind ?? "";
    if (kept.focus) search.focus({ preventScroll: true });
    addEventListener("pagehide", () => {
      const focus = document.activeElement === search;
      sessionStorage.setItem("table", JSON.stringify({ search: search.value, kind: kind.value, focus }));
    });
  } catch { /* storage is switched off */ }
  show();
})();
