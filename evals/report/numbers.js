"use strict";
// Says where a number comes from: click it, or move to it with the arrow keys and press Enter.
{
  const data = JSON.parse(document.getElementById("numbers").textContent);
  const dialog = document.getElementById("origin");
  const say = (name, text) => {
    const made = document.createElement(name);
    made.textContent = text;
    return made;
  };

  const filled = (template, parts) => template.replace(/\{(\w+)\}/g, (_, name) => parts[name]);

  const list = (facts) => {
    const made = document.createElement("dl");
    for (const [name, text] of facts) if (text) made.append(say("dt", name), say("dd", text));
    return made;
  };

  const open = (title, variants, set, scorer, printed) => {
    const over = set in data.prompts ? [set] : data.pooled;
    // The mean of judges is of those that rate all of these sets; pooled, one scorer counts those that it rates.
    const alone = scorer in data.scorers;
    const scorers = alone ? [scorer] : data.judges.filter((name) => over.every((one) => data.rated[name].includes(one)));
    const sets = alone ? over.filter((one) => data.rated[scorer].includes(one)) : over;
    const models = variants.flatMap((variant) => data.variants[variant] || []);
    const body = dialog.querySelector(".body");
    body.replaceChildren(say("p", printed));
    const prompts = sets.reduce((sum, name) => sum + data.prompts[name], 0);
    body.append(list([
      ["prompt sets", sets.map((name) => `${name} (${data.prompts[name]} prompts)`).join(", ")],
      ["n", `${prompts} prompts; ${models.length} model${models.length === 1 ? "" : "s"}, ${prompts * models.length} scores`],
      ["scorer, protocol, fingerprint", scorers.map((name) =>
        `${name}, ${data.scorers[name].protocol}, ${data.scorers[name].fingerprints.join(" and ") || "not known"}`).join("; ")],
    ]));
    for (const name of models) {
      const model = data.models[name];
      body.append(say("h3", name), list([
        ["model folder", model.folder], ["training seed", model.seed], ["configuration", model.config],
        ["commit", model.commit], ["started", model.started],
        ["score files", scorers.flatMap((scorer) => sets.map((set) =>
          filled(data.score_file, { scorer, model: name, set }))).join("\n")],
      ]));
    }
    const link = say("a", "Its images, prompt by prompt");
    const shown = { set: sets[0], scorer: scorers[0], a: variants[0], ...(variants[1] ? { b: variants[1] } : {}) };
    link.href = `browser/index.html#${new URLSearchParams(shown)}`;
    body.append(link);
    dialog.querySelector("h2").textContent = title;
    dialog.showModal();
  };

  const cells = new WeakMap();
  const mark = (table, describe) => {
    const inside = [...table.tBodies].flatMap((body) => [...body.rows].flatMap((row) => [...row.cells]))
      .filter((cell) => cell.tagName === "TD" && describe(cell) && /\d/.test(cell.textContent));
    if (!inside.length) return;
    inside.forEach((cell) => { cells.set(cell, describe); cell.tabIndex = -1; cell.classList.add("number"); });
    inside[0].tabIndex = 0;
  };
  const explain = (cell) => {
    const { title, variants, set, scorer } = cells.get(cell)(cell);
    open(title, variants, set, scorer, cell.innerText.replace(/\s+/g, " "));
  };
  const cellOf = (event) => {
    const cell = event.target.closest && event.target.closest("td");
    return cell && cells.has(cell) ? cell : null;
  };
  document.addEventListener("click", (event) => { const cell = cellOf(event); if (cell) explain(cell); });
  document.addEventListener("keydown", (event) => {
    const cell = cellOf(event);
    if (!cell) return;
    if (event.key === "Enter" || event.key === " ") { event.preventDefault(); explain(cell); return; }
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!step) return;
    event.preventDefault();
    const rows = [...cell.closest("table").querySelectorAll("tbody tr")].filter((row) => !row.hidden && row.cells.length > 1);
    let [x, y] = [cell.cellIndex + step[0], rows.indexOf(cell.parentElement) + step[1]];
    while (rows[y] && rows[y].cells[x]) {
      const other = rows[y].cells[x];
      if (cells.has(other) && !other.hidden) {
        cell.tabIndex = -1;
        other.tabIndex = 0;
        other.focus();
        return;
      }
      [x, y] = [x + step[0], y + step[1]];
    }
  });

  for (const table of document.querySelectorAll("figure.main-table table")) {
    if (table.closest(".beside")) continue;
    const labels = [...table.tHead.rows[0].cells].filter((cell) => cell.scope === "col").length;
    const sets = [...table.tHead.rows[0].cells].filter((cell) => cell.scope === "colgroup")
      .flatMap((cell) => Array(cell.colSpan).fill(cell.textContent.trim()));
    const scorers = [...table.tHead.rows[1].cells].map((cell) => cell.textContent.trim());
    mark(table, (cell) => {
      const column = cell.cellIndex - labels;
      const variant = cell.parentElement.cells[0].textContent.trim();
      return column < 0 ? null
        : { title: `${variant}, ${scorers[column]} on ${sets[column]}`, variants: [variant], set: sets[column], scorer: scorers[column] };
    });
  }
  for (const table of document.querySelectorAll("table.compared")) {
    mark(table, (cell) => {
      const row = cell.parentElement;
      const { a, b } = row.dataset;
      const set = row.dataset.set || "";
      const scorer = row.dataset.scorer || (cell.dataset.scorer || "");
      return { title: `${a} vs ${b}, ${scorer || "mean of judges"}${set ? ` on ${set}` : ""}`, variants: [a, b], set, scorer };
    });
  }
  dialog.querySelector("button").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
}
