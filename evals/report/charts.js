"use strict";
// Draws the charts: those in sight first, the others when there is time, each laid out by the width that it has.
{
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const config = read("chart-config");
  const LABELS = 90;

  const fitted = (spec, width) => {
    const panel = Math.max(...spec.concat.map((unit) => (typeof unit.width === "number" ? unit.width : 0)));
    const columns = Math.max(1, Math.min(spec.columns, Math.floor(width / (panel + LABELS))));
    const narrower = Math.min(panel, width - LABELS);
    const concat = spec.concat.map((unit) => (unit.width === panel ? { ...unit, width: narrower } : unit));
    return { ...spec, columns, concat };
  };

  const draw = async (chart) => {
    const spec = fitted(read(`chart-${chart.dataset.chart}`), chart.parentElement.clientWidth);
    const layout = `${spec.columns} ${spec.concat[0].width}`;
    if (chart.dataset.layout === layout) return;
    chart.dataset.layout = layout;
    const choices = chart.closest("figure").querySelector(".choices");
    choices.replaceChildren();
    try {
      await vegaEmbed(chart, spec, {
        ast: true, actions: false, renderer: "svg", config, bind: choices, defaultStyle: false,
        tooltip: { disableDefaultStyle: true },
      });
      // Read out is what the page says of the chart; its marks have no names.
      chart.querySelector("svg").setAttribute("aria-hidden", "true");
    } catch (error) {
      chart.textContent = `This chart could not be drawn (${error.message}); figures/ has the same as pictures.`;
    }
    chart.dataset.drawn = "";
  };

  const charts = [...document.querySelectorAll("[data-chart]")];
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting) draw(entry.target);
  }, { rootMargin: "400px" });
  charts.forEach((chart) => seen.observe(chart));
  const later = window.requestIdleCallback || ((work) => setTimeout(work, 200));
  const rest = [...charts];
  const next = () => {
    const chart = rest.shift();
    if (chart) draw(chart).then(() => later(next));
  };
  window.addEventListener("load", () => later(next));
  let width = window.innerWidth;
  window.addEventListener("resize", () => {
    if (window.innerWidth === width) return;
    width = window.innerWidth;
    charts.filter((chart) => "layout" in chart.dataset).forEach(draw);
  });
}
