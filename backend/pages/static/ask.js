"use strict";
// A button with data-post asks its data-question, then sends data-body as JSON and says what came of
// it. It stays a button of the page: nothing is sent before somebody has confirmed.
(() => {
  const dialog = document.getElementById("ask");
  const outcome = document.getElementById("outcome");
  const confirm = document.getElementById("ask-yes");
  let asked = null;

  document.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-post]");
    if (!button) return;
    asked = { ...button.dataset };
    document.getElementById("ask-question").textContent = asked.question;
    confirm.textContent = button.textContent;
    confirm.disabled = false;
    dialog.showModal();
  });

  function tell(sentences, failed) {
    outcome.replaceChildren(...sentences.filter(Boolean).map((text) => {
      const line = document.createElement("p");
      line.textContent = text;
      return line;
    }));
    outcome.classList.toggle("problem", failed);
    outcome.hidden = false;
  }

  confirm.addEventListener("click", async () => {
    confirm.disabled = true;
    try {
      const answer = await fetch(asked.post, { method: "POST", headers: { "Content-Type": "application/json" }, body: asked.body });
      const said = await answer.json();
      if (answer.ok) tell([said.sentence, ...said.warnings], false);
      else tell([said.message, said.mend], true);
    } catch {
      tell(["Tiebreak cannot be reached. Look at the versions before you ask again."], true);
    }
    dialog.close();
    outcome.focus();
    document.dispatchEvent(new CustomEvent("tiebreak:look"));
  });
  document.getElementById("ask-no").addEventListener("click", () => dialog.close());
})();
