"use strict";
// Makes cards that have more to say than an A4 page holds a little smaller; never below a readable size.
// A page holds 277 mm; what is left over is for lines that break differently on paper.
function fitCards(cards) {
  const page = (268 / 25.4) * 96, smallest = 0.7, tries = 4;
  const scales = new Map(cards.map((card) => [card, 1]));
  document.documentElement.classList.add("measuring");
  for (const card of cards) card.style.removeProperty("--fit");
  let tall = cards;
  for (let at = 0; at < tries && tall.length; at += 1) {
    const heights = tall.map((card) => card.getBoundingClientRect().height);
    const measured = tall;
    tall = [];
    measured.forEach((card, index) => {
      const scale = scales.get(card);
      if (heights[index] <= page || scale <= smallest) return;
      // Text of half the size needs a quarter of the room.
      const next = Math.max(scale * Math.sqrt(page / heights[index]) - 0.012, smallest);
      scales.set(card, next);
      card.style.setProperty("--fit", next.toFixed(3));
      tall.push(card);
    });
  }
  document.documentElement.classList.remove("measuring");
}
if (document.documentElement.classList.contains("alone")) {
  window.addEventListener("beforeprint", () => fitCards([...document.querySelectorAll(".card")]));
}
