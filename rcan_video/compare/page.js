"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const stage = $("stage"), divider = $("divider"), zoom = $("zoom"), place = $("place"), times = $("times");
  const pairs = [...document.querySelectorAll(".pair")];
  const choices = [...document.querySelectorAll(".choices button")];
  const panes = [["before", $("zoom-before")], ["after", $("zoom-after")]];
  let shown = 0, held = false, dragging = false;
  let at = null; // the zoom's middle, in pixels of the picture

  const image = (which) => pairs[shown].querySelector("." + which);
  const within = (value, low, high) => Math.min(Math.max(value, low), Math.max(low, high));

  function moveLine(percent) {
    divider.value = within(percent, 0, 100);
    stage.style.setProperty("--at", divider.value + "%");
    divider.setAttribute("aria-valuetext", Math.round(divider.value) + " % source, the rest output");
  }

  function drawZoom() {
    const picture = image("after");
    if (!picture.naturalWidth) return;
    at = at || { x: Number(pairs[shown].dataset.x), y: Number(pairs[shown].dataset.y) };
    const side = panes[0][1].width / Number(times.value);
    at.x = within(at.x, side / 2, picture.naturalWidth - side / 2);
    at.y = within(at.y, side / 2, picture.naturalHeight - side / 2);
    const left = Math.round(at.x - side / 2), top = Math.round(at.y - side / 2);
    for (const [which, canvas] of panes) {
      const context = canvas.getContext("2d");
      context.imageSmoothingEnabled = false;
      context.clearRect(0, 0, canvas.width, canvas.height);
      context.drawImage(image(which), left, top, side, side, 0, 0, canvas.width, canvas.height);
    }
    place.textContent = `${side} x ${side} pixels from ${left}, ${top}`;
  }

  function choose(number) {
    pairs.forEach((pair, n) => { pair.hidden = n !== number; });
    choices.forEach((button, n) => button.setAttribute("aria-pressed", String(n === number)));
    shown = number;
    if (!held) at = null;
    image("after").decode().then(drawZoom, drawZoom);
  }

  function follow(event) {
    const box = pairs[shown].getBoundingClientRect(), picture = image("after");
    const x = (event.clientX - box.left) / box.width, y = (event.clientY - box.top) / box.height;
    if (dragging) moveLine(100 * x);
    if (!held) {
      at = { x: x * picture.naturalWidth, y: y * picture.naturalHeight };
      drawZoom();
    }
  }

  choices.forEach((button, n) => button.addEventListener("click", () => choose(n)));
  divider.addEventListener("input", () => moveLine(divider.value));
  stage.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    dragging = { x: event.clientX, moved: false };
    stage.setPointerCapture(event.pointerId);
    event.preventDefault();
  });
  stage.addEventListener("pointermove", (event) => {
    if (dragging) dragging.moved = dragging.moved || Math.abs(event.clientX - dragging.x) > 3;
    if (!dragging || dragging.moved) follow(event);
  });
  stage.addEventListener("pointerup", (event) => {
    if (dragging && !dragging.moved) {
      held = !held;
      dragging = false;
      follow(event);
    }
    dragging = false;
    divider.focus({ focusVisible: false, preventScroll: true });
  });
  stage.addEventListener("pointercancel", () => { dragging = false; });
  zoom.addEventListener("keydown", (event) => {
    const step = event.shiftKey ? 1 : 16;
    const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
    const turn = { "+": 1, "=": 1, "-": -1 }[event.key];
    if (moves[event.key] && at) {
      at = { x: at.x + moves[event.key][0], y: at.y + moves[event.key][1] };
    } else if (turn) {
      times.selectedIndex = within(times.selectedIndex + turn, 0, times.options.length - 1);
    } else {
      return;
    }
    event.preventDefault();
    drawZoom();
  });
  times.addEventListener("change", drawZoom);
  $("actual").addEventListener("change", (event) => stage.classList.toggle("actual", event.target.checked));
  moveLine(50);
  choose(0);
})();
