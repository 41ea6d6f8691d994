// Unpacks the data and starts the page.

readArrays().then(() => {
  startMaps();
  startFilters();
  startSearch();
  startPointing();
  document.documentElement.dataset.ready = "";
}).catch(problem => {
  byId("found").textContent = `This page is damaged or the browser too old: ${problem.message}`;
  throw problem;
});
