// SPDX-License-Identifier: GPL-3.0-or-later
// Returns what is wrong with the page that is open, as texts.
(leastTarget => {
  const found = new Set();
  const width = document.documentElement.clientWidth;
  const box = element => element.getBoundingClientRect();
  const cross = (one, other) =>
    one.left < other.right && other.left < one.right && one.top + 2 < other.bottom && other.top + 2 < one.bottom;

  if (document.scrollingElement.scrollWidth > width) found.add("the page is wider than the screen");
  for (const element of document.querySelectorAll("body *:not(script)")) {
    const { left, right } = box(element);
    if (right > left && (left < -0.5 || right > width + 0.5))
      found.add(`off the screen: ${element.outerHTML.slice(0, 90)}`);
  }
  for (const picture of document.querySelectorAll("svg")) {
    const texts = [...picture.querySelectorAll("text")];
    texts.forEach((text, index) => {
      if (box(text).right > box(picture).right + 1 || box(text).left < box(picture).left - 1)
        found.add(`cut off: ${text.textContent}`);
      for (const other of texts.slice(index + 1))
        if (cross(box(text), box(other))) found.add(`one over the other: ${text.textContent} | ${other.textContent}`);
    });
    for (const group of picture.querySelectorAll("g")) {
      const frame = group.querySelector("rect.box, .badge");
      for (const text of frame ? group.querySelectorAll("rect.box ~ text, text.word") : [])
        if (box(text).right > box(frame).right + 1) found.add(`out of its box: ${text.textContent}`);
    }
  }
  for (const label of document.querySelectorAll("dt, th, td"))
    if (/^\S{1,12}$/.test(label.textContent.trim())) {
      const text = document.createRange();
      text.selectNodeContents(label);
      if (text.getClientRects().length > 1) found.add(`a word in two lines: ${label.textContent}`);
    }
  for (const target of document.querySelectorAll("summary, button, h3 a"))
    if (box(target).height && box(target).height < leastTarget) found.add(`hard to hit: ${target.textContent}`);
  if (document.querySelectorAll("pre.command").length !== document.querySelectorAll("pre.command + button").length)
    found.add("a command cannot be copied");
  if (!document.documentElement.lang || document.querySelectorAll("h1").length !== 1)
    found.add("no language or no heading");
  return [...found];
})(24) // CSS pixels that a finger hits (WCAG 2.2, success criterion 2.5.8)
