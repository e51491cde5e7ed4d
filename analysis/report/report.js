// What a page does beyond its libraries: light and dark, copying commands, and starting tables and charts.
(() => {
  const root = document.documentElement, system = matchMedia("(prefers-color-scheme: dark)"), KEY = "scionlab-theme";
  const find = (selector) => [...document.querySelectorAll(selector)];
  let chosen = null; try { chosen = localStorage.getItem(KEY); } catch { /* refused: the choice lasts as long as the page */ }
  const paint = (dark = (chosen ?? (system.matches ? "dark" : "light")) === "dark") => {
    root.classList.toggle("dark", dark);
    root.classList.toggle("light", !dark);
    find("#theme").forEach((button) => button.setAttribute("aria-pressed", dark));
  };
  const toggle = () => {
    chosen = root.classList.contains("dark") ? "light" : "dark";
    try { localStorage.setItem(KEY, chosen); } catch { /* as above */ }
    paint();
  };
  const copy = async (button) => {
    const code = document.getElementById(button.dataset.copies);
    getSelection().selectAllChildren(code); // what is left to do by hand if both ways are refused
    const copied = await Promise.resolve().then(() => navigator.clipboard.writeText(code.textContent))
      .then(() => true, () => document.execCommand("copy"));
    button.nextElementSibling.textContent = copied ? "Copied" : "Selected: press Ctrl+C or ⌘C";
  };
  const sift = (words) => {
    find(".card").forEach((card) => { card.hidden = !words.every((word) => card.textContent.toLowerCase().includes(word)); });
    document.getElementById("shown").textContent = `${find(".card:not([hidden])").length} of ${find(".card").length} experiments`;
  };
  const draw = async (place) => {
    const spec = JSON.parse(document.getElementById(place.dataset.chart).textContent);
    const { view } = await vegaEmbed(place, spec, { renderer: "svg", actions: false });
    // Vega tells of a line only near its points; here a line is one trial from end to end.
    view.addEventListener("pointermove", (event, item) => { if (item?.tooltip) view.tooltip()(view, event, item, item.tooltip); });
  };
  const tabulate = async (table) => {
    const module = [document.getElementById("datatables").textContent];
    const { default: DataTable } = await import(URL.createObjectURL(new Blob(module, { type: "text/javascript" })));
    const filter = (head) => ({ extend: "dropdown", icon: "search", text: `Filter by ${head.textContent}`,
      content: head.classList.contains("listed") ? ["searchClear", "searchList"] : ["search"] });
    const made = new DataTable(table, {
      order: [], pageLength: 25, lengthMenu: [10, 25, 100, { label: "all", value: -1 }], autoWidth: false,
      columnDefs: [...table.tHead.rows[0].cells].map((head, targets) => ({ targets, columnControl: [{ target: 1, content: [filter(head)] }] })),
      language: { search: "Search ", lengthMenu: "_MENU_ trials a page", info: "_START_ to _END_ of _TOTAL_ trials",
        infoFiltered: "(of _MAX_ in all)", infoEmpty: "No trials", zeroRecords: "No trial is left by the filters" } });
    // Paper has no pages to turn: all rows that the filters leave.
    addEventListener("beforeprint", () => { table.dataset.length = made.page.len(); made.page.len(-1).draw(); });
    addEventListener("afterprint", () => made.page.len(Number(table.dataset.length)).draw());
  };

  paint();
  [[system, "change"], [window, "afterprint"]].forEach(([source, event]) => source.addEventListener(event, () => paint()));
  addEventListener("beforeprint", () => paint(false));
  addEventListener("DOMContentLoaded", () => {
    find(".scripted").forEach((part) => { part.hidden = false; });
    find("#theme").forEach((button) => button.addEventListener("click", toggle));
    find("button[data-copies]").forEach((button) => button.addEventListener("click", () => copy(button)));
    find("#sift").forEach((field) => field.addEventListener("input", () => sift(field.value.toLowerCase().split(/\s+/))));
    find("[data-chart]").forEach(draw); find("#all-trials").forEach(tabulate);
    paint();
  });
})();
