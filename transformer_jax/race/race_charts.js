const { charts, names, colours } = JSON.parse(document.getElementById("data").textContent);
const svgNode = (tag, attributes, text) => {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  return node;
};
const short = (value) => value >= 1e6 ? value / 1e6 + "M" : value >= 1e4 ? value / 1e3 + "k" : String(+value.toPrecision(3));
const rounded = (low, high) => {  // about five round numbers from low to high
  const rough = (high - low) / 5, size = 10 ** Math.floor(Math.log10(rough));
  const step = size * [1, 2, 5, 10].find((m) => m * size >= rough);
  const found = [];
  for (let v = Math.ceil(low / step) * step; v <= high + step * 1e-6; v += step) found.push(+v.toPrecision(6));
  return found;
};
const W = 960, H = 400, L = 70, R = 28, T = 12, B = 48;
document.querySelectorAll(".chart").forEach((box) => {
  const chart = charts[Number(box.dataset.chart)];
  const hidden = new Set();
  const legend = document.createElement("div"); legend.className = "legend";
  const holder = document.createElement("div");
  const tip = document.createElement("div"); tip.className = "tip";
  box.append(legend, holder, tip);
  Object.keys(chart.lines).forEach((name) => {
    const button = document.createElement("button");
    const dot = document.createElement("span"); dot.className = "dot";
    const place = names.indexOf(name), colour = colours[place % colours.length];
    dot.style.border = `3px solid ${colour}`;
    if (place < colours.length) dot.style.background = colour;  // hollow where the line is dashed
    button.append(dot, name); button.setAttribute("aria-pressed", "true");
    button.onclick = () => {
      hidden.has(name) ? hidden.delete(name) : hidden.add(name);
      button.setAttribute("aria-pressed", String(!hidden.has(name))); draw();
    };
    legend.append(button);
  });
  const draw = () => {
    const shown = Object.entries(chart.lines).filter(([name]) => !hidden.has(name));
    const svg = svgNode("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": chart.title });
    holder.replaceChildren(svg);
    if (!shown.length) return;
    const f = chart.log ? Math.log10 : (v) => v;
    const xs = shown.flatMap(([, line]) => line.length), ys = shown.flatMap(([, line]) => line.median);
    let [x0, x1] = [Math.min(...xs), Math.max(...xs)].map(f), [y0, y1] = [Math.min(...ys), Math.max(...ys)].map(f);
    if (x0 === x1) { x0 -= 0.5; x1 += 0.5; }
    const pad = (y1 - y0 || 1) * 0.06; y0 -= pad; y1 += pad;
    const px = (v) => L + (f(v) - x0) / (x1 - x0) * (W - L - R), py = (v) => H - B - (f(v) - y0) / (y1 - y0) * (H - T - B);
    const ticks = [];
    if (chart.log) {
      for (let e = Math.floor(y0); e <= Math.ceil(y1); e++) for (const m of y1 - y0 < 2.2 ? [1, 2, 5] : [1]) {
        const value = m * 10 ** e; if (f(value) >= y0 && f(value) <= y1) ticks.push(value);
      }
    } else ticks.push(...rounded(y0, y1));
    ticks.forEach((value) => {
      svg.append(svgNode("line", { x1: L, x2: W - R, y1: py(value), y2: py(value), stroke: "#e4e4e4" }));
      svg.append(svgNode("text", { x: L - 8, y: py(value) + 4, "text-anchor": "end" }, short(value)));
    });
    const places = chart.log ? [...new Set(xs)].sort((a, b) => a - b) : rounded(x0, x1);
    places.forEach((value) => svg.append(
      svgNode("text", { x: px(value), y: H - B + 20, "text-anchor": "middle" },
        chart.log ? value.toLocaleString("en") : short(value))));
    svg.append(svgNode("text", { x: (L + W - R) / 2, y: H - 6, "text-anchor": "middle" }, chart.x));
    shown.forEach(([name, line]) => {
      const place = names.indexOf(name), colour = colours[place % colours.length];
      const dash = ["", "7 4", "2 3"][Math.floor(place / colours.length) % 3];
      if (line.low) {
        const up = line.length.map((x, i) => `${px(x)},${py(line.high[i])}`);
        const down = line.length.map((x, i) => `${px(x)},${py(line.low[i])}`).reverse();
        svg.append(svgNode("polygon", { points: [...up, ...down].join(" "), fill: colour, "fill-opacity": 0.13 }));
      }
      const points = line.length.map((x, i) => `${px(x)},${py(line.median[i])}`).join(" ");
      svg.append(svgNode("polyline", { points, fill: "none", stroke: colour, "stroke-width": 2, "stroke-dasharray": dash }));
      line.length.forEach((x, i) => {
        const dot = svgNode("circle", { cx: px(x), cy: py(line.median[i]), r: 4, fill: colour, tabindex: 0 });
        const say = () => { tip.textContent = `${name}: ${short(line.median[i])} ${chart.y} at ${x.toLocaleString("en")} ${chart.x}`; };
        dot.addEventListener("mouseenter", say); dot.addEventListener("focus", say);
        svg.append(dot);
      });
    });
  };
  draw();
});
