// Search by words in titles and ids.

const LISTED = 100;
let folded = null;  // the texts to search, made at the first search
let results = [], active = -1;  // the patents in the list, and the place that the arrow keys have reached

// Small letters without accents.
const fold = text => (/^[ -~]*$/.test(text) ? text : text.normalize("NFD").replace(/\p{M}/gu, "")).toLowerCase();

// The visible patents whose title or id holds every word: first a patent of this id, then those in which each word
// begins a word, then those in which it is only a part.
function search(query) {
  folded ??= D.title.map((title, n) => ` ${fold(title)} ${fold(D.id[n])}`);
  const words = fold(query).split(/\s+/).filter(Boolean), whole = words.join(" ");
  const starts = words.map(word => new RegExp(`(^|[^\\p{L}\\p{N}])${word.replace(/[$()*+./?[\\\]^{|}]/g, "\\$&")}`, "u"));
  const ranked = [[], [], []];
  for (const n of state.visible) {
    const text = folded[n];
    if (!words.every(word => text.includes(word))) continue;
    ranked[fold(D.id[n]) === whole ? 0 : starts.every(start => start.test(text)) ? 1 : 2].push(n);
  }
  return ranked.flatMap(patents => patents.sort((a, b) => a - b));
}

function showResults() {
  const query = byId("query").value.trim(), list = byId("results");
  results = query ? search(query) : [];
  active = -1;
  state.found = query ? Uint32Array.from(results) : null;
  const some = results.length > LISTED ? `, the first ${LISTED} listed` : "";
  byId("found").textContent = query ? `${plural(results.length, "patent")} found${some}` : "";
  list.hidden = !results.length;
  list.replaceChildren(...results.slice(0, LISTED).map((n, place) => make("li", {
    role: "option", id: `result-${place}`, "aria-selected": "false",
    onclick: () => choose(place), onpointerenter: () => point(n), onpointerleave: () => point(-1),
  }, dot(n), make("span", {class: "name"}, D.title[n]), make("small", {}, about(n)))));
  list.scrollTop = 0;
  byId("query").setAttribute("aria-expanded", String(results.length > 0));
  byId("query").removeAttribute("aria-activedescendant");
  draw();
}

function activate(place) {
  const options = byId("results").children;
  options[active]?.setAttribute("aria-selected", "false");
  active = Math.min(options.length - 1, Math.max(0, place));
  if (!options[active]) return;
  options[active].setAttribute("aria-selected", "true");
  options[active].scrollIntoView({block: "nearest"});
  byId("query").setAttribute("aria-activedescendant", options[active].id);
  point(results[active]);
}

function choose(place) {
  if (results[place] === undefined) return;
  select(results[place]);
  allMaps.filter(map => map.isShown).slice(0, 1).forEach(map => map.reveal(results[place]));
}

function endSearch() {
  byId("query").value = "";
  showResults();
}

function startSearch() {
  const query = byId("query");
  let timer = 0;
  query.oninput = () => {
    clearTimeout(timer);
    timer = setTimeout(showResults, D.count > 20000 ? 150 : 0);  // not after every letter
  };
  query.onkeydown = e => {
    if (e.key === "ArrowDown") activate(active + 1);
    else if (e.key === "ArrowUp") activate(active - 1);
    else if (e.key === "Enter") choose(Math.max(0, active));
    else return;
    e.preventDefault();
  };
}
