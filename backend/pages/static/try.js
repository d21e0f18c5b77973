"use strict";
// Tries images on the project's model, one after the other, and sends those that people correct.
(() => {
  const place = document.getElementById("try");
  if (!place) return;
  const project = Number(place.dataset.project), most = Number(place.dataset.most);
  const studio = place.dataset.labelStudio;
  const doing = document.getElementById("doing"), results = document.getElementById("results");
  const shape = document.getElementById("result");
  let turn = Promise.resolve();

  async function ask(path, body) {
    let answer;
    try {
      answer = await fetch(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
    } catch {
      throw new Error("Tiebreak cannot be reached.");
    }
    const said = await answer.json().catch(() => ({}));
    if (!answer.ok) throw new Error(`${said.message || `It answers ${answer.status}.`} ${said.mend || ""}`.trim());
    return said;
  }

  function read(file) {
    return new Promise((resolve, reject) => {
      if (file.size > most) return reject(new Error(`The file is larger than ${most.toLocaleString()} bytes.`));
      const reader = new FileReader();
      reader.onload = () => resolve(reader.result);
      reader.onerror = () => reject(new Error("The file cannot be read."));
      reader.readAsDataURL(file);
    });
  }

  const percent = (share) => `${(100 * share).toFixed(1)} %`;

  function item(text) {
    const made = document.createElement("li");
    made.textContent = text;
    return made;
  }

  function near(each) {
    const made = document.createElement("li"), link = document.createElement(studio ? "a" : "span"), picture = new Image();
    if (studio) Object.assign(link, { href: `${studio}/projects/${project}/data?task=${each.task}`, rel: "noreferrer" });
    picture.src = `/images/${each.digest}`;
    picture.alt = "";
    link.append(picture, `task ${each.task}: ${each.choices.join(", ")}`);
    made.append(link, ` ${each.similarity.toFixed(2)}`);
    return made;
  }

  function fade(card) {
    const strength = card.querySelector(".strength").value / 100;
    for (const layer of card.querySelectorAll(".layer")) layer.style.opacity = strength;
  }

  function show(card, found) {
    const at = (name) => card.querySelector(name);
    at(".label").textContent = found.label;
    at(".confidence").textContent = percent(found.confidence);
    at(".version").textContent = found.version;
    at(".top5").replaceChildren(...found.top.map((each) => item(`${each.name}: ${percent(each.probability)}`)));
    for (const image of card.querySelectorAll(".plain")) image.src = `/images/${found.digest}`;
    at(".superpixels").src = found.superpixels;
    at(".heat").src = found.heat;
    at(".fit").textContent = `They account for ${Math.max(0, Math.round(100 * found.fit))} % of what hiding them changes.`;
    const classes = [...new Set([found.explained, ...found.top.map((each) => each.name)])];
    at(".explained").replaceChildren(...classes.map((name) => new Option(name, name, false, name === found.explained)));
    at(".nearest").replaceChildren(...found.nearest.map(near));
    if (!found.nearest.length) at(".nearest").replaceChildren(item("There are none yet."));
    at(".answer").hidden = false;
    fade(card);
  }

  async function explain(card, image, chosen) {
    const problem = card.querySelector(".problem");
    doing.textContent = `Looking at ${image.name} … The network is asked some hundred times what it would say without parts of the image, which takes seconds, on a busy machine a minute.`;
    try {
      image.uri ??= await read(image.file);
      show(card, await ask(`/api/projects/${project}/explain`, chosen ? { uri: image.uri, class: chosen } : { uri: image.uri }));
      problem.hidden = true;
      doing.textContent = `${image.name}: ${card.querySelector(".label").textContent}, ${card.querySelector(".confidence").textContent}.`;
    } catch (error) {
      problem.textContent = error.message;
      problem.hidden = false;
      doing.textContent = "";
    }
  }

  function picked(form) {
    const choices = {};
    for (const field of form.querySelectorAll("fieldset")) {
      const select = field.querySelector("select");
      const values = select ? [select.value].filter(Boolean) : [...field.querySelectorAll("input:checked")].map((box) => box.value);
      if (values.length) choices[field.dataset.control] = values;
    }
    return choices;
  }

  async function send(form, image) {
    const button = form.querySelector("[type=submit]"), sent = form.querySelector(".sent"), choices = picked(form);
    if (!Object.keys(choices).length) {
      sent.textContent = "Choose what it is first.";
      return;
    }
    button.disabled = true;
    try {
      const made = await ask(`/api/projects/${project}/tasks`, { uri: image.uri, name: image.name, choices });
      sent.textContent = `It is task ${made.task} of the project now, with its label.`;
      form.querySelector(".retrain").hidden = false;
    } catch (error) {
      sent.textContent = error.message;
      button.disabled = false;
    }
  }

  async function retrain(form) {
    const sent = form.querySelector(".sent");
    try {
      await ask("/train", { project });
      form.querySelector(".retrain").disabled = true;
      sent.textContent = "A training is asked for. The pages of the project say how it goes.";
    } catch (error) {
      sent.textContent = error.message;
    }
  }

  function add(image) {
    const card = shape.content.firstElementChild.cloneNode(true);
    card.querySelector("h2").textContent = image.name;
    card.querySelector(".strength").addEventListener("input", () => fade(card));
    card.querySelector(".explained").addEventListener("change", (event) => {
      turn = turn.then(() => explain(card, image, event.target.value));
    });
    const form = card.querySelector(".correct");
    form?.addEventListener("submit", (event) => {
      event.preventDefault();
      send(form, image);
    });
    form?.querySelector(".retrain").addEventListener("click", () => retrain(form));
    results.prepend(card);
    turn = turn.then(() => explain(card, image));
  }

  function addFiles(files) {
    for (const file of files) add({ name: file.name, file });
  }

  const files = document.getElementById("files"), drop = place.querySelector(".drop");
  files.addEventListener("change", () => {
    addFiles(files.files);
    files.value = "";
  });
  for (const name of ["dragover", "drop"]) drop.addEventListener(name, (event) => event.preventDefault());
  drop.addEventListener("drop", (event) => addFiles(event.dataTransfer.files));
  document.getElementById("addresses-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const field = document.getElementById("addresses");
    for (const line of field.value.split("\n").map((each) => each.trim()).filter(Boolean)) add({ name: line, uri: line });
    field.value = "";
  });
})();
