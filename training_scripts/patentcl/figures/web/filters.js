// Colours, the filters by colour and by year, and the light and the dark theme.

const theme = {isDark: false, groups: [], changes: {}, ink: "", paper: ""};

const channels = colour => [1, 3, 5].map(at => parseInt(colour.slice(at, at + 2), 16));
const toHex = parts => `#${parts.map(v => Math.round(v).toString(16).padStart(2, "0")).join("")}`;

// Relative luminance and contrast as WCAG 2 defines them.
const luminance = colour => {
  const [r, g, b] = channels(colour).map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const contrast = (a, b) => {
  const [low, high] = [luminance(a), luminance(b)].sort((x, y) => x - y);
  return (high + 0.05) / (low + 0.05);
};

// The colour, moved away from the paper until it can be seen. Greys stay faint on either paper.
function readable(colour) {
  const parts = channels(colour), isGrey = Math.max(...parts) - Math.min(...parts) < 8;
  if (isGrey) return theme.isDark ? toHex(parts.map(v => 290 - v)) : colour;
  const goal = theme.isDark ? 255 : 0, least = theme.isDark ? 3.2 : 1.5;
  for (let share = 0; share <= 1; share += 0.05) {
    const moved = toHex(parts.map(v => v + (goal - v) * share));
    if (contrast(moved, theme.paper) >= least) return moved;
  }
  return colour;
}

function setDark(isDark) {
  document.documentElement.dataset.theme = isDark ? "dark" : "light";
  const style = getComputedStyle(document.documentElement), colour = name => style.getPropertyValue(name).trim();
  Object.assign(theme, {isDark, ink: colour("--ink"), paper: colour("--paper")});
  theme.changes = {kept: colour("--kept"), new: colour("--new"), lost: colour("--lost")};
  byId("theme").setAttribute("aria-pressed", isDark);
  byId("theme").textContent = isDark ? "Light" : "Dark";
  setColouring(state.colouring);
  if (years.length) showYears();
  showResults();
  showDetail();
}

const dot = n => spotOf(theme.groups[D.groups[state.colouring][n]]);

function spotOf(colour) {
  const spot = make("i", {"aria-hidden": "true"});
  spot.style.background = colour;
  return spot;
}

function setColouring(colouring) {
  state.colouring = colouring;
  theme.groups = D.colourings[colouring].colours.map(readable);
  showLegends();
  draw();
}

// The legend of the colours, and below it the sections if the colours stand for something else: both are filters.
function showLegends() {
  const shown = [state.colouring], section = D.colourings.findIndex(colouring => colouring.by.endsWith("section"));
  if (section >= 0 && section !== state.colouring) shown.push(section);
  byId("legends").replaceChildren(...shown.map(colouring => {
    const {by, names} = D.colourings[colouring], counts = new Uint32Array(names.length);
    for (const group of D.groups[colouring]) counts[group]++;
    const spots = colouring === state.colouring ? theme.groups.map(spotOf) : names.map(() => "");
    return make("div", {role: "group", "aria-label": `Filter by ${by}`},
      ...(shown.length > 1 ? [make("h2", {}, by)] : []),
      ...names.map((name, group) => make("button", {
        class: "key", "aria-pressed": String(!state.hidden[colouring][group]), title: name,
        onclick: e => toggle(colouring, group, e.shiftKey),
      }, spots[group], make("span", {class: "name"}, name), make("small", {}, counts[group].toLocaleString("en")))));
  }));
}

function toggle(colouring, group, alone) {
  const hidden = state.hidden[colouring], isAlone = !hidden[group] && hidden.every((off, g) => off === (g !== group));
  if (alone) hidden.forEach((_, g) => { hidden[g] = !isAlone && g !== group; });
  else hidden[group] = !hidden[group];
  byId("legends").querySelectorAll("[role=group]").forEach(list => {
    if (list.getAttribute("aria-label") !== `Filter by ${D.colourings[colouring].by}`) return;
    list.querySelectorAll("button").forEach((button, g) => button.setAttribute("aria-pressed", !hidden[g]));
  });
  filter();
}

// Which patents are visible: none of their groups is hidden, and their year is in the range (undated ones only in the
// full range).
function filter() {
  const [first, last] = state.years ?? [0, 0], isFull = !years.length || (first === years[0] && last === years.at(-1));
  const active = state.hidden.map((hidden, c) => [hidden, D.groups[c]]).filter(([hidden]) => hidden.includes(true));
  state.visible = D.order.filter(n => (isFull || (D.year[n] >= first && D.year[n] <= last))
    && active.every(([hidden, groups]) => !hidden[groups[n]]));
  const isAll = state.visible.length === D.count;
  byId("shown").textContent = isAll ? `All ${plural(D.count, "patent")} shown`
    : `${state.visible.length.toLocaleString("en")} of ${plural(D.count, "patent")} shown`;
  byId("clear").hidden = isAll;
  showResults();
}

let years = [];  // all from the first to the last

function startYears() {
  const dated = D.year.filter(year => year > 0);
  let [first, last] = [Infinity, -Infinity];
  for (const year of dated) [first, last] = [Math.min(first, year), Math.max(last, year)];
  if (!(first < last)) {
    byId("years").hidden = true;
    return;
  }
  years = Array.from({length: last - first + 1}, (_, n) => first + n);
  state.years = [first, last];
  const ends = ["first", "last"].map(byId);
  ends.forEach((input, end) => {
    Object.assign(input, {min: first, max: last, step: 1, value: state.years[end]});
    input.oninput = () => {
      const other = Number(ends[1 - end].value), value = end ? Math.max(other, input.value) : Math.min(other, input.value);
      input.value = value;
      state.years[end] = Number(value);
      showYears();
      filter();
    };
  });
  showYears();
}

function showYears() {
  const [first, last] = state.years, canvas = byId("histogram"), pen = canvas.getContext("2d");
  byId("span").textContent = first === last ? String(first) : `${first}–${last}`;
  const counts = years.map(() => 0), dense = devicePixelRatio || 1;
  for (const year of D.year) if (year > 0) counts[year - years[0]]++;
  const {clientWidth: width, clientHeight: height} = canvas, most = Math.max(...counts), bar = width / years.length;
  [canvas.width, canvas.height] = [width * dense, height * dense];
  pen.scale(dense, dense);
  counts.forEach((count, n) => {
    pen.fillStyle = years[n] >= first && years[n] <= last ? theme.changes.new : theme.changes.kept;
    pen.globalAlpha = years[n] >= first && years[n] <= last ? 0.8 : 0.25;
    const tall = Math.max(count ? 1 : 0, height * count / most);
    pen.fillRect(n * bar, height - tall, Math.max(0.5, bar - 1), tall);
  });
}

function startFilters() {
  byId("colouring").append(...D.colourings.map(({by}, n) => make("option", {value: n}, by)));
  byId("colouring").onchange = e => {
    setColouring(Number(e.target.value));
    showResults();
    showDetail();
  };
  byId("colour").hidden = D.colourings.length < 2;
  byId("clear").onclick = () => {
    state.hidden.forEach(hidden => hidden.fill(false));
    if (years.length) {
      state.years = [years[0], years.at(-1)];
      ["first", "last"].forEach((id, end) => { byId(id).value = state.years[end]; });
      showYears();
    }
    showLegends();
    filter();
  };
  const prefersDark = matchMedia("(prefers-color-scheme: dark)");
  prefersDark.onchange = () => setDark(prefersDark.matches);
  byId("theme").onclick = () => setDark(!theme.isDark);
  byId("filters").open = innerWidth > 900;
  setDark(prefersDark.matches);
  startYears();
  filter();
}
