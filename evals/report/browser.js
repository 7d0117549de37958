"use strict";
// Orders and filters the prompts of a set by the scores of two variants, and shows one prompt of all models.
{
  const about = JSON.parse(document.getElementById("about").textContent);
  const at = (id) => document.getElementById(id);
  const PAGE = 24;
  const element = (name, properties = {}, ...children) => {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  };

  // Data come as scripts, which call this.
  const arrived = new Map();
  const waiting = new Map();
  globalThis.loaded = (name, value) => arrived.set(name, value);
  const load = (name) => {
    if (!waiting.has(name)) {
      waiting.set(name, new Promise((resolve) => {
        const script = element("script", { src: `${name}.js` });
        script.addEventListener("load", () => resolve(arrived.get(name) || null));
        script.addEventListener("error", () => resolve(null));
        document.head.append(script);
      }));
    }
    return waiting.get(name);
  };

  const numbers = (packed) => {
    if (!packed) return null;
    const bytes = Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0));
    const view = new DataView(bytes.buffer);
    return Float32Array.from({ length: bytes.length / 4 }, (_, i) => view.getFloat32(4 * i, true));
  };

  const unpacked = new Map();
  const modelData = async (set, model) => {
    const name = `scores-${set}-${model}`;
    if (!unpacked.has(name)) {
      const data = await load(name);
      const scores = {};
      for (const scorer of about.sets[set].scorers) scores[scorer] = data && numbers(data.scores[scorer]);
      const each = {};
      for (const [scorer, packed] of Object.entries((data && data.each) || {})) each[scorer] = numbers(packed);
      unpacked.set(name, { scores, each, folder: data && data.folder, files: data ? data.files : [], file: `${name}.js`, gone: !data });
    }
    return unpacked.get(name);
  };

  const modelOf = (variant, seed) => about.models.findIndex((model) => model.variant === variant
    && (model.seed === null || model.seed === seed));
  const printed = (value) => (value === undefined || Number.isNaN(value) ? "no score" : Number(value.toPrecision(4)).toString().replace("-", "−"));
  const signed = (value) => (value > 0 ? `+${printed(value)}` : printed(value));

  const options = (select, names, chosen) => {
    select.replaceChildren(...names.map(([value, text]) => element("option", { value, textContent: text })));
    if (names.some(([value]) => String(value) === chosen)) select.value = chosen;
  };

  const picture = (data, place, alt) => {
    const file = data.files[place];
    const gap = (text) => element("span", { className: "gap", textContent: text });
    if (data.gone) return gap(`${data.file} is gone: no scores and images of this model`);
    if (!file) return gap("no image of this prompt in the manifest");
    const image = element("img", { loading: "lazy", decoding: "async", alt });
    image.addEventListener("error", () => image.replaceWith(gap(`${file} is gone`)));
    image.addEventListener("load", () => image.classList.toggle("small", image.naturalWidth <= 64));
    image.src = `${data.folder}/${encodeURIComponent(file)}`;
    return image;
  };

  const scoreOf = (data, scorer, place) => (data.scores[scorer] ? data.scores[scorer][place] : undefined);

  // All images of a prompt, each with its own score by the chosen scorer; the first alone where the model's data are gone.
  const pictures = (data, set, place, alt, chosen) => {
    const count = data.gone ? 1 : about.sets[set].images;
    if (count === 1) return picture(data, place, alt);
    const prompts = data.files.length / count;
    const own = data.each[chosen];
    return element("div", { className: "several" }, ...Array.from({ length: count }, (_, image) => element("div", {},
      picture(data, image * prompts + place, `${alt} (image ${image + 1} of ${count})`),
      element("span", { className: "own", textContent: printed(own ? own[image * prompts + place] : undefined) }))));
  };

  const figure = (data, set, place, name, prompt, chosen) => {
    const list = element("dl", { className: "scores" });
    for (const scorer of about.sets[set].scorers) {
      const own = scorer === chosen ? "chosen" : "";
      list.append(element("dt", { className: own, textContent: scorer }),
        element("dd", { className: own, textContent: printed(scoreOf(data, scorer, place)) }));
    }
    const count = about.sets[set].images;
    const means = count > 1 ? [element("span", { className: "own", textContent: `means of ${count} images` })] : [];
    return element("figure", {}, pictures(data, set, place, `${name}: ${prompt}`, chosen),
      element("figcaption", {}, element("strong", { textContent: name }), ...means, list));
  };

  // Better differences are positive, whatever the scorer's direction.
  const differences = (first, second, scorer) => {
    const [x, y] = [first.scores[scorer.name], second.scores[scorer.name]];
    return x && y ? x.map((value, i) => scorer.sign * (value - y[i])) : null;
  };
  const deviation = (values) => {
    const known = values.filter((value) => !Number.isNaN(value));
    const mean = known.reduce((sum, value) => sum + value, 0) / known.length;
    return Math.sqrt(known.reduce((sum, value) => sum + (value - mean) ** 2, 0) / known.length);
  };
  // How far apart the most favourable and the least favourable scorer are, each in its own standard deviations.
  const disagreement = (first, second, set, count) => {
    const judges = about.scorers.filter((scorer) => scorer.judges && about.sets[set].scorers.includes(scorer.name));
    const scaled = judges.map((scorer) => differences(first, second, scorer)).filter(Boolean)
      .map((values) => [values, deviation(values)]).filter(([, width]) => width > 0)
      .map(([values, width]) => values.map((value) => value / width));
    if (scaled.length < 2) return null;
    return Float32Array.from({ length: count }, (_, i) => {
      const found = scaled.map((values) => values[i]);
      return Math.max(...found) - Math.min(...found);
    });
  };

  let shown = 0;
  let order = [];
  let state = null;
  let turn = 0;

  const card = (place) => {
    const { prompts, first, second, set, scorer, difference, spread } = state;
    const text = prompts.prompt[place];
    const open = element("button", { type: "button", className: "prompt", dir: "auto", textContent: text || "(empty prompt)" });
    open.addEventListener("click", () => openPrompt(place));
    const value = difference ? difference[place] : NaN;
    const known = !Number.isNaN(value);
    const line = element("div", { className: "facts-line" }, `${prompts.prompt_id[place]}${prompts.category[place] ? `, ${prompts.category[place]}` : ""}: `,
      element("span", { className: value > 0 ? "up" : value < 0 ? "down" : "", textContent: known ? `${signed(value)} ${scorer.name}` : `no difference by ${scorer.name}` }));
    if (spread) line.append(`, scorers ${printed(spread[place])} apart`);
    return element("li", {}, open, line, element("div", { className: "side" },
      figure(first, set, place, state.a, text, scorer.name), figure(second, set, place, state.b, text, scorer.name)));
  };

  const more = () => {
    at("prompts").append(...order.slice(shown, shown + PAGE).map(card));
    shown = Math.min(order.length, shown + PAGE);
    at("more").hidden = shown >= order.length;
    at("more").textContent = `Show more (${order.length - shown} left)`;
  };

  const openPrompt = async (place) => {
    const { prompts, set, seed, scorer } = state;
    const dialog = at("one");
    at("one-title").textContent = prompts.prompt[place] || "(empty prompt)";
    at("one-note").textContent = `${prompts.prompt_id[place]} of ${about.sets[set].name}, training seed ${seed ?? "none"}`;
    const models = about.variants.map((variant) => modelOf(variant, seed)).filter((model) => model >= 0);
    const data = await Promise.all(models.map((model) => modelData(set, model)));
    dialog.querySelector(".models").replaceChildren(...models.map((model, i) =>
      figure(data[i], set, place, about.models[model].variant, prompts.prompt[place], scorer.name)));
    dialog.showModal();
  };

  const list = () => {
    const wanted = at("text").value.trim().toLowerCase();
    const category = at("category").value;
    const chosen = document.querySelector("input[name=order]:checked").value;
    const { prompts, difference, spread } = state;
    order = prompts.prompt.map((_, i) => i).filter((i) => prompts.prompt[i].toLowerCase().includes(wanted)
      && (category === "" || prompts.category[i] === category));
    const key = { gain: difference, loss: difference && difference.map((value) => -value), disagreement: spread }[chosen];
    const last = (value) => (Number.isNaN(value) ? -Infinity : value);
    if (key) order.sort((i, j) => (last(key[j]) > last(key[i]) ? 1 : last(key[j]) < last(key[i]) ? -1 : i - j));
    at("prompts").replaceChildren();
    shown = 0;
    const gaps = [];
    if (!difference) gaps.push(`no scores of both by ${state.scorer.name}, so in the order of the set`);
    else if (difference.some(Number.isNaN)) gaps.push(`${difference.filter(Number.isNaN).length} without a difference come last`);
    if (chosen === "disagreement" && !spread) gaps.push("fewer than two scorers that tell the two apart, so in the order of the set");
    at("said").textContent = [`${order.length} of ${prompts.prompt.length} prompts`, ...gaps].join("; ");
    more();
  };

  const update = async () => {
    turn += 1;
    const own = turn;
    const set = Number(at("set").value);
    const seed = at("seed").value === "" ? null : Number(at("seed").value);
    const [a, b] = [at("a").value, at("b").value];
    const rated = about.scorers.filter((scorer) => about.sets[set].scorers.includes(scorer.name));
    options(at("scorer"), rated.map(({ name }) => [name, name]), at("scorer").value || asked.get("scorer") || "");
    const scorer = rated.find(({ name }) => name === at("scorer").value);
    const [left, right] = [modelOf(a, seed), modelOf(b, seed)];
    const missing = [[a, left], [b, right]].filter(([, model]) => model < 0).map(([variant]) => variant);
    at("meaning").textContent = `Gain: score of ${a} minus that of ${b} by ${scorer.name}${scorer.sign < 0 ? ", turned round since low scores are good" : ""}; `
      + "disagreement: distance between the most and the least favourable scorer, each in standard deviations of its own differences.";
    if (missing.length) {
      at("prompts").replaceChildren();
      at("more").hidden = true;
      at("said").textContent = `${missing.join(" and ")}: no model of training seed ${seed}`;
      return;
    }
    const [prompts, first, second] = await Promise.all([load(`prompts-${set}`), modelData(set, left), modelData(set, right)]);
    if (own !== turn) return;
    if (!prompts) { at("said").textContent = `prompts-${set}.js is gone: make the report again`; return; }
    const categories = [...new Set(prompts.category)].filter(Boolean).sort();
    options(at("category"), [["", "every"], ...categories.map((name) => [name, name])], at("category").value);
    at("category").parentElement.hidden = categories.length === 0;
    history.replaceState(null, "", `#${new URLSearchParams({ set: about.sets[set].name, seed: seed ?? "", a, b, scorer: scorer.name })}`);
    state = {
      prompts, first, second, set, seed, a, b, scorer,
      difference: differences(first, second, scorer), spread: disagreement(first, second, set, prompts.prompt.length),
    };
    list();
  };

  // What a link asks for: names of a set, a scorer and two variants, and a seed.
  const asked = new URLSearchParams(location.hash.slice(1));
  const askedSet = about.sets.findIndex(({ name }) => name === asked.get("set"));
  options(at("set"), about.sets.map(({ name }, i) => [i, name]), String(askedSet));
  options(at("seed"), about.seeds.length ? about.seeds.map((seed) => [seed, seed]) : [["", "none"]], asked.get("seed") || "");
  const variants = about.variants.map((name) => [name, name]);
  const wanted = asked.get("a");
  const [a, b] = about.pairs.find(([first]) => wanted === null || first === wanted) || [about.variants[0], about.variants[0]];
  options(at("a"), variants, wanted ?? a);
  options(at("b"), variants, asked.get("b") ?? b);
  for (const id of ["set", "seed", "a", "b", "scorer"]) at(id).addEventListener("change", update);
  at("category").addEventListener("change", list);
  at("text").addEventListener("input", list);
  for (const radio of document.querySelectorAll("input[name=order]")) radio.addEventListener("change", list);
  document.querySelector("form").addEventListener("submit", (event) => event.preventDefault());
  at("more").addEventListener("click", more);
  at("one").querySelector("button").addEventListener("click", () => at("one").close());
  update();
}
