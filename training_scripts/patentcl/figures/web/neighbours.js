// The selected patent: its nearest neighbours in each model, side by side, and what changed against the first model.

// The neighbours of a patent in a model, each with its rank in the first model (for the first model itself: in the last
// one, if there is another), and whether it is kept, new or lost.
function changesOf(n, model) {
  const base = model === 0, others = D.models.map((_, m) => m).filter(m => base ? m > 0 : m === 0);
  return [...nearestOf(model, n)].map((patent, place) => {
    const ranks = others.map(other => nearestOf(other, n).indexOf(patent) + 1);
    const kept = ranks.filter(rank => rank > 0).length;
    const change = kept || !others.length ? "kept" : base ? "lost" : "new";
    return {patent, place, change, ranks, kept, cosine: D.cosines[model][n * D.neighbours + place] / 100};
  });
}

function changeText(model, {change, ranks, kept, place}) {
  if (!ranks.length) return "";
  if (change !== "kept") return change;
  if (ranks.length > 1) return `kept by ${kept} of ${ranks.length}`;
  if (ranks[0] === place + 1) return "same rank";
  return model === 0 ? `now ${ranks[0]}` : `was ${ranks[0]}`;
}

// How many of the neighbours of all patents a model shares with the first one, on average.
const sharedOnAverage = new Map();
function averageShared(model) {
  if (!sharedOnAverage.has(model)) {
    let shared = 0;
    for (let n = 0; n < D.count; n++) {
      const base = nearestOf(0, n);
      for (const patent of nearestOf(model, n)) shared += base.includes(patent);
    }
    sharedOnAverage.set(model, shared / D.count);
  }
  return sharedOnAverage.get(model);
}

function neighbourList(model) {
  const changes = changesOf(state.selected, model), kept = changes.filter(({change}) => change === "kept").length;
  const summary = D.models.length === 1 ? "" : model === 0
    ? `${kept} of ${changes.length} kept` : `${kept} of ${changes.length} as in ${D.models[0]}`;
  return make("div", {class: "list"},
    make("h3", {}, make("span", {class: "name"}, D.models[model]), make("small", {}, summary)),
    make("ol", {}, ...changes.map(neighbour => make("li", {}, make("button", {
      title: D.title[neighbour.patent],
      onclick: () => select(neighbour.patent),
      onpointerenter: () => point(neighbour.patent), onpointerleave: () => point(-1),
      onfocus: () => point(neighbour.patent), onblur: () => point(-1),
    },
    make("span", {class: "rank"}, String(neighbour.place + 1)), dot(neighbour.patent),
    make("span", {class: "name"}, D.title[neighbour.patent]),
    make("small", {}, [D.id[neighbour.patent], D.date[neighbour.patent].slice(0, 4)].filter(Boolean).join(" · ")),
    make("span", {class: "cosine", title: "cosine similarity"}, neighbour.cosine.toFixed(2)),
    make("span", {class: `change ${neighbour.change}`}, changeText(model, neighbour)))))));
}

function metricsTable() {
  const best = ({values, up}) => {
    const known = values.filter(value => value !== null);
    return up ? Math.max(...known) : Math.min(...known);
  };
  const rows = D.metrics.map(metric => ({...metric, digits: 3}));
  if (D.neighbours && D.models.length > 1) {
    const values = D.models.map((_, model) => model ? averageShared(model) : null);
    rows.push({name: `nearest ${D.neighbours} shared with ${D.models[0]}`, values, digits: 1, plain: true});
  }
  if (!rows.length) return "";
  return make("div", {class: "wide"}, make("table", {},
    make("thead", {}, make("tr", {}, make("th", {}), ...D.models.map(name => make("th", {scope: "col"}, name)))),
    make("tbody", {}, ...rows.map(row => make("tr", {}, make("th", {scope: "row"}, row.name), ...row.values.map(value =>
      make("td", {class: !row.plain && D.models.length > 1 && value !== null && value === best(row) ? "best" : ""},
        value === null ? "–" : value.toFixed(row.digits))))))));
}

function showDetail() {
  const detail = byId("detail"), n = state.selected;
  detail.classList.toggle("open", n >= 0);
  if (n < 0) {
    const hint = D.neighbours ? "Click a patent to list its nearest neighbours in each model." : "";
    detail.replaceChildren(make("p", {class: "hint"}, hint), metricsTable());
    return;
  }
  const lists = D.neighbours ? D.models.map((_, model) => neighbourList(model)) : [];
  detail.replaceChildren(
    make("div", {class: "patent"}, dot(n), make("h2", {}, D.title[n]), make("small", {}, about(n)),
      make("button", {onclick: () => select(-1), "aria-label": "End the selection"}, "×")),
    make("div", {class: "lists"}, ...lists));
  detail.scrollTop = 0;
  byId("spoken").textContent = `${D.title[n]} selected`;
}
