const show = (id, text) => {
  document.getElementById(id).textContent = text;
};

const version = async () => {
  try {
    const answer = await (await fetch("/version", {cache: "no-store"})).json();
    for (const key of ["version", "release", "port"]) show(key, answer[key]);
  } catch (error) {
    show("version", `no answer: ${error.message}`);
  }
};

const socket = () => {
  const opened = new Date();
  const link = new WebSocket(location.origin.replace(/^http/, "ws") + "/websocket");
  link.onopen = () => show("socket", `open since ${opened.toLocaleTimeString()}`);
  link.onclose = () => {
    show("socket", "closed, opening again");
    setTimeout(socket, 1000);
  };
};

setInterval(version, 1000);
socket();
