"use strict";
(() => {
  document.documentElement.classList.add("script");

  for (const slider of document.querySelectorAll(".slider")) {
    const range = slider.querySelector("input");
    const move = () => {
      slider.style.setProperty("--at", `${range.value}%`);
      range.setAttribute("aria-valuetext", `${range.value} % reference`);
    };
    range.addEventListener("input", move);
    move();
  }

  const filter = document.querySelector(".filter");
  if (!filter) return;
  const words = filter.querySelector("input[type=search]");
  const count = filter.querySelector("output");
  const groups = [...document.querySelectorAll(".comparisons tbody")].map((body) => {
    const [head, ...rows] = body.rows;
    const name = head.textContent;
    return { body, rows: rows.map((row) => ({ row, text: `${name} ${row.textContent}`.toLowerCase() })) };
  });
  const total = groups.reduce((sum, group) => sum + group.rows.length, 0);
  const apply = () => {
    const status = filter.querySelector("input[type=radio]:checked").value;
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const { body, rows } of groups) {
      let inside = 0;
      for (const { row, text } of rows) {
        const fits = (!status || row.classList.contains(status)) && wanted.every((word) => text.includes(word));
        row.hidden = !fits;
        inside += fits;
      }
      body.hidden = !inside;
      shown += inside;
    }
    count.textContent = `${shown} of ${total} comparisons`;
  };
  filter.addEventListener("input", apply);
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[href^='#']");
    const target = link && document.getElementById(link.getAttribute("href").slice(1));
    if (!target || !target.closest("[hidden]")) return;
    words.value = "";
    filter.querySelector("input[value='']").checked = true;
    apply();
  });
  filter.hidden = false;
  apply();
})();
