"use strict";
(function () {
  const data = JSON.parse(document.getElementById("data").textContent);
  const hops = data.hops, last = hops.length - 1;
  if (last < 0) { return; }
  const root = document.documentElement, stage = document.querySelector(".stage"), box = document.querySelector(".maps");
  const slider = document.querySelector(".slider"), count = document.querySelector(".count");
  const now = { place: ".now-place", question: ".now-question", why: ".now-why", flow: ".now-flow", rows: ".headers tbody" };
  for (const key of Object.keys(now)) { now[key] = document.querySelector(now[key]); }
  const maps = ["wide", "narrow"].map(function (kind) {
    const svg = document.querySelector(".map." + kind), stations = new Map();
    svg.querySelectorAll("[data-key]").forEach(function (one) { stations.set(one.dataset.key, one); });
    return { svg: svg, stations: stations, points: data.points[kind], token: svg.querySelector(".token"), trail: svg.querySelector(".trail") };
  });
  const PACE = 900;
  let at = 0, timer = null;

  root.classList.add("js");
  slider.max = String(last);

  function text(element, words) { element.textContent = words || ""; }

  function cell(row, tag, words) {
    const made = document.createElement(tag);
    made.textContent = words === undefined || words === null ? "" : words;
    row.appendChild(made);
  }

  function showHeaders(hop) {
    const before = hop.after === null ? hop.headers : hops[hop.after].headers;
    now.rows.textContent = "";
    for (const name of new Set(Object.keys(before).concat(Object.keys(hop.headers)))) {
      const row = document.createElement("tr");
      row.className = before[name] === hop.headers[name] ? "" : "changed";
      cell(row, "td", data.names[name] || name);
      cell(row, "td", before[name]);
      cell(row, "td", hop.headers[name]);
      now.rows.appendChild(row);
    }
  }

  function showNow(hop) {
    text(now.place, hop.host + " " + hop.device + (hop.table ? ", table " + hop.table_id + " " + hop.table : ""));
    text(now.question, hop.question);
    text(now.why, hop.why);
    text(now.flow, hop.flow || (hop.kind === "table" ? "no flow matches: the packet is dropped" : ""));
    showHeaders(hop);
  }

  function lines(map, leg) {
    let path = "";
    for (let number = leg.first; number <= at; number += 1) {
      const before = hops[number].after, from = before === null ? null : map.points[before], to = map.points[number];
      if (from && to) { path += "M" + from[0] + " " + from[1] + "L" + to[0] + " " + to[1]; }
    }
    return path;
  }

  function showMap(map) {
    const leg = data.legs[hops[at].leg], point = map.points[at];
    map.stations.forEach(function (station) { station.classList.remove("here", "passed"); });
    for (let number = leg.first; number <= at; number += 1) {
      const station = map.points[number] && map.stations.get(map.points[number][2]);
      if (station) { station.classList.add(number === at ? "here" : "passed"); }
    }
    map.svg.querySelectorAll(".at").forEach(function (one) { text(one, ""); });
    const table = hops[at].table && point && map.stations.get(hops[at].host + "/" + hops[at].device);
    const label = table && table.querySelector(".at");
    if (label) { text(label, hops[at].table_id + " " + hops[at].table); }
    map.trail.setAttribute("d", lines(map, leg));
    map.token.classList.toggle("lost", leg.outcome === "dropped" && at === leg.last);
    map.token.style.visibility = point ? "visible" : "hidden";
    if (point) { map.token.style.transform = "translate(" + point[0] + "px," + point[1] + "px)"; }
  }

  function follow(map) {
    const point = map.points[at];
    if (!point || getComputedStyle(map.svg).display === "none") { return; }
    const scale = map.svg.getBoundingClientRect().width / map.svg.viewBox.baseVal.width;
    box.scrollTo({ left: point[0] * scale - box.clientWidth / 2, top: point[1] * scale - box.clientHeight / 2, behavior: "smooth" });
  }

  function reveal(element, behavior) {
    const covered = getComputedStyle(stage).position === "sticky" && stage.offsetWidth > window.innerWidth * 0.9 ? stage.offsetHeight : 0;
    const place = element.getBoundingClientRect();
    if (place.top < covered + 8 || place.bottom > window.innerHeight - 8) {
      window.scrollBy({ top: place.top - covered - (window.innerHeight - covered) / 3, behavior: behavior });
    }
  }

  function show(number, scroll) {
    document.getElementById("hop-" + at).classList.remove("here");
    at = Math.max(0, Math.min(last, number));
    const hop = hops[at], item = document.getElementById("hop-" + at);
    item.classList.add("here");
    slider.value = String(at);
    text(count, (at + 1) + " of " + hops.length);
    showNow(hop);
    maps.forEach(showMap);
    maps.forEach(follow);
    document.querySelectorAll("[data-do=first],[data-do=back]").forEach(function (one) { one.disabled = at === 0; });
    document.querySelector("[data-do=on]").disabled = at === last;
    if (scroll) { reveal(item, scroll === "at once" ? "instant" : "smooth"); }
    if (at === last) { stop(); }
  }

  function stop() {
    window.clearInterval(timer);
    timer = null;
    document.body.classList.remove("playing");
  }

  function play() {
    if (timer !== null) { stop(); return; }
    if (at === last) { show(0, true); }
    document.body.classList.add("playing");
    timer = window.setInterval(function () { show(at + 1, true); }, PACE);
  }

  const does = {
    first: function () { show(0, true); }, back: function () { show(at - 1, true); },
    on: function () { show(at + 1, true); }, play: play
  };

  document.querySelectorAll("[data-do]").forEach(function (button) {
    button.addEventListener("click", function () {
      if (button.dataset.do !== "play") { stop(); }
      does[button.dataset.do]();
    });
  });
  slider.addEventListener("input", function () { stop(); show(Number(slider.value), true); });
  document.querySelectorAll(".row").forEach(function (row) {
    row.addEventListener("click", function () {
      stop();
      const item = row.parentElement, open = item.classList.toggle("open");
      row.setAttribute("aria-expanded", String(open));
      show(Number(row.dataset.hop), false);
    });
  });
  maps.forEach(function (map) {
    map.stations.forEach(function (station, key) {
      station.addEventListener("click", function () {
        const found = map.points.findIndex(function (point, number) { return number > at && point && point[2] === key; });
        const first = map.points.findIndex(function (point) { return point && point[2] === key; });
        if (first >= 0) { stop(); show(found >= 0 ? found : first, true); }
      });
    });
  });
  document.addEventListener("keydown", function (event) {
    const keys = { ArrowLeft: "back", ArrowRight: "on", Home: "first", " ": "play" };
    const wanted = keys[event.key];
    if (!wanted || event.altKey || event.ctrlKey || event.metaKey || /^(INPUT|BUTTON)$/.test(event.target.tagName)) { return; }
    event.preventDefault();
    if (wanted !== "play") { stop(); }
    does[wanted]();
  });
  window.addEventListener("resize", function () { maps.forEach(follow); });
  const asked = /^#hop-(\d+)$/.exec(window.location.hash);
  show(asked ? Number(asked[1]) : 0, asked ? "at once" : false);
}());
