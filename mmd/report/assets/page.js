// Starts what is on the page: views, the theme, the filter of settings, printing.

(function start() {
  const root = document.documentElement;
  for (const figure of document.querySelectorAll("figure.chart")) figure.view = new ChartView(figure);
  for (const block of document.querySelectorAll(".policies")) new PoliciesView(block);
  for (const block of document.querySelectorAll(".answers")) new AnswersView(block);

  for (const box of document.querySelectorAll(".differences")) {
    box.addEventListener("change", () => box.closest(".compared").classList.toggle("onlydiffering", box.checked));
  }

  const dark = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ?? (dark.matches ? "dark" : "light")) === "dark";
  const button = document.getElementById("theme");
  const recolour = () => {
    button.textContent = isDark() ? "Light" : "Dark";
    button.setAttribute("aria-label", isDark() ? "Light colours" : "Dark colours");
    for (const action of onTheme) action();
  };
  button.hidden = false;
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    recolour();
  });
  dark.addEventListener("change", recolour);
  button.textContent = isDark() ? "Light" : "Dark";

  const print = (printing) => {
    if (root.classList.contains("printing") === printing) return;
    root.classList.toggle("printing", printing);
    for (const action of onPrint) action(printing);
  };
  addEventListener("beforeprint", () => print(true));
  addEventListener("afterprint", () => print(false));
})();
