"use strict";
// Makes the tab in Label Studio that holds the labels of this page.
document.getElementById("make-tab")?.addEventListener("click", async ({ target }) => {
  const made = document.getElementById("tab-made");
  target.disabled = true;
  made.textContent = "Making the tab …";
  try {
    const answer = await fetch(target.dataset.url, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ most: Number(target.dataset.most) }),
    });
    const said = await answer.json();
    if (!answer.ok) throw new Error(`${said.message} ${said.mend}`);
    const link = document.createElement("a");
    link.href = said.url;
    link.rel = "noreferrer";
    link.textContent = `Open “${said.title}” in Label Studio`;
    const count = said.tasks.length;
    made.replaceChildren(link, ` (${count} ${count === 1 ? "task" : "tasks"})`);
  } catch (error) {
    made.textContent = error.message;
  } finally {
    target.disabled = false;
  }
});
