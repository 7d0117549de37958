"use strict";
// Tables that sort by each column, and show only the rows or the columns that are asked for.
{
  const element = (name, properties = {}, ...children) => {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  };

  // Of each column its own header cell, and the names of those above it.
  const columns = (table) => {
    const found = [];
    const rows = [...table.tHead.rows];
    const taken = rows.map(() => []);
    rows.forEach((row, y) => {
      let x = 0;
      for (const cell of row.cells) {
        while (taken[y][x]) x += 1;
        for (let i = 0; i < cell.colSpan; i += 1) {
          for (let j = 0; j < cell.rowSpan; j += 1) if (taken[y + j]) taken[y + j][x + i] = true;
          const name = cell.textContent.trim();
          found[x + i] = { cell, name, above: found[x + i] ? [...found[x + i].above, found[x + i].name] : [] };
        }
        x += cell.colSpan;
      }
    });
    return found;
  };

  const bodyRows = (table) => [...table.tBodies].flatMap((body) => [...body.rows]).filter((row) => row.cells.length > 1);
  const text = (row, column) => (row.cells[column] ? row.cells[column].textContent.trim() : "");
  const number = (value) => {
    const found = /^[^\d+−-]{0,3}([+−-]?\d[\d.]*(?:e[+-]?\d+)?)/.exec(value);
    return found ? Number(found[1].replace("−", "-")) : NaN;
  };
  const value = (row, column) => {
    const cell = row.cells[column];
    return cell && cell.dataset.value !== undefined ? cell.dataset.value : text(row, column);
  };

  const sort = (table, column, direction) => {
    for (const body of table.tBodies) {
      const rows = [...body.rows];
      const fixed = rows.filter((row) => row.cells.length === 1);
      const moved = rows.filter((row) => row.cells.length > 1);
      moved.sort((a, b) => {
        if (direction === "none") return a.dataset.place - b.dataset.place;
        const [x, y] = [value(a, column), value(b, column)];
        const [p, q] = [number(x), number(y)];
        const order = Number.isNaN(p) || Number.isNaN(q)
          ? Number.isNaN(p) - Number.isNaN(q) || x.localeCompare(y)
          : (p - q) * (direction === "ascending" ? 1 : -1);
        if (Number.isNaN(p) && Number.isNaN(q) && direction === "descending") return -order;
        return order || a.dataset.place - b.dataset.place;
      });
      body.append(...fixed, ...moved);
    }
  };

  const makeSortable = (table) => {
    bodyRows(table).forEach((row, place) => { row.dataset.place = place; });
    const heads = columns(table);
    heads.forEach(({ cell }, column) => {
      if (cell.tagName !== "TH") return;
      const button = element("button", { type: "button", className: "sort" });
      button.append(...cell.childNodes);
      cell.append(button);
      cell.setAttribute("aria-sort", "none");
      button.addEventListener("click", () => {
        const numeric = bodyRows(table).some((row) => !Number.isNaN(number(value(row, column))));
        const cycle = numeric ? ["descending", "ascending", "none"] : ["ascending", "descending", "none"];
        const next = cycle[(cycle.indexOf(cell.getAttribute("aria-sort")) + 1) % 3];
        for (const other of heads) if (other.cell.tagName === "TH") other.cell.setAttribute("aria-sort", "none");
        cell.setAttribute("aria-sort", next);
        sort(table, column, next);
      });
    });
  };

  const select = (label, names, chosen, changed) => {
    const options = ["", ...names].map((name) => element("option", { value: name, textContent: name || "every" }));
    const made = element("select", {}, ...options);
    made.value = chosen;
    made.addEventListener("change", changed);
    return [made, element("label", {}, `${label} `, made)];
  };

  const makeFilterable = (table) => {
    const place = table.closest(".scroll, figure") || table;
    const bar = element("div", { className: "filters" });
    const said = element("span", { className: "said", role: "status" });
    const heads = columns(table);
    const rows = bodyRows(table);
    const search = element("input", { type: "search", autocomplete: "off" });
    const initial = JSON.parse(table.dataset.initial || "{}");
    const byRow = (table.dataset.rows || "").split(" ").filter(Boolean).map(Number);
    const byColumn = "columns" in table.dataset;
    const selects = byRow.map((column) => {
      const names = [...new Set(rows.map((row) => text(row, column)))];
      const chosen = names.includes(initial[column]) ? initial[column] : "";
      return [column, ...select(heads[column].name, names, chosen, () => show())];
    });
    const grouped = heads.filter((head) => head.above.length);
    const [groups, groupLabel] = select("prompt set", [...new Set(grouped.map((head) => head.above[0]))], "", () => show());
    const [leaves, leafLabel] = select("scorer", [...new Set(grouped.map((head) => head.name))], "", () => show());

    const show = () => {
      const wanted = search.value.trim().toLowerCase();
      let count = 0;
      for (const row of rows) {
        const fits = selects.every(([column, made]) => made.value === "" || text(row, column) === made.value)
          && row.textContent.toLowerCase().includes(wanted);
        row.hidden = !fits;
        count += fits;
      }
      for (const body of table.tBodies) {
        const own = rows.filter((row) => row.parentElement === body);
        body.hidden = own.length > 0 && own.every((row) => row.hidden);
      }
      said.textContent = count === rows.length ? "" : `${count} of ${rows.length} rows`;
      if (byColumn) showColumns();
    };
    const showColumns = () => {
      const fits = heads.map((head) => !head.above.length
        || ((groups.value === "" || head.above[0] === groups.value) && (leaves.value === "" || head.name === leaves.value)));
      heads.forEach((head, column) => {
        head.cell.hidden = !fits[column];
        for (const row of rows) if (row.cells[column]) row.cells[column].hidden = !fits[column];
      });
      for (const cell of table.tHead.rows[0].cells) {
        if (cell.scope !== "colgroup") continue;
        const count = heads.filter((head, column) => head.above[0] === cell.textContent.trim() && fits[column]).length;
        cell.hidden = count === 0;
        cell.colSpan = Math.max(1, count);
      }
    };

    search.addEventListener("input", show);
    bar.append(element("label", {}, "text ", search), ...selects.map(([, , label]) => label));
    if (byColumn) bar.append(groupLabel, leafLabel);
    bar.append(said);
    place.before(bar);
    show();
  };

  for (const table of document.querySelectorAll("figure.main-table table")) {
    table.dataset.sortable = "";
    table.dataset.columns = "";
  }
  for (const table of document.querySelectorAll("table[data-sortable]")) {
    const choices = table.dataset.rows || "columns" in table.dataset;
    if (choices || ("rows" in table.dataset && bodyRows(table).length > 8)) makeFilterable(table);
    makeSortable(table);
  }
}
