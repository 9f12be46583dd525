"use strict";
// Shows /openapi.json, and sends requests. All texts are set as text: nothing of the document is taken for markup.

const METHODS = ["get", "post", "put", "patch", "delete"];

function make(name, text, attributes) {
  const element = document.createElement(name);
  if (text !== undefined) element.textContent = text;
  for (const [key, value] of Object.entries(attributes || {})) element.setAttribute(key, value);
  return element;
}

function schemaName(schema) {
  if (!schema) return "";
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.type === "array") return schemaName(schema.items) + "[]";
  return [].concat(schema.type || "any").join(" or ");
}

function parameters(operation, fields) {
  const table = make("table");
  for (const parameter of operation.parameters || []) {
    const row = make("tr");
    const name = make("td");
    name.append(make("code", parameter.name), make("span", parameter.required ? " (required)" : "", { class: "note" }));
    const input = make("input", undefined, { "aria-label": parameter.name });
    fields.push({ parameter, input });
    const cell = make("td");
    cell.append(input);
    row.append(name, make("td", parameter.in), make("td", parameter.description || ""), cell);
    table.append(row);
  }
  return table;
}

function responses(operation) {
  const table = make("table");
  for (const [status, response] of Object.entries(operation.responses || {})) {
    const row = make("tr");
    const content = Object.entries(response.content || {})
      .map(([type, media]) => `${type} ${schemaName(media.schema)}`)
      .join(", ");
    const code = make("td");
    code.append(make("code", status));
    row.append(code, make("td", response.description || ""), make("td", content));
    table.append(row);
  }
  return table;
}

function request(path, fields) {
  let url = path;
  const query = new URLSearchParams();
  const headers = {};
  const token = document.getElementById("token").value.trim();
  if (token) headers.Authorization = `Bearer ${token}`;
  for (const { parameter, input } of fields) {
    if (parameter.in === "path") url = url.replace(`{${parameter.name}}`, encodeURIComponent(input.value));
    else if (input.value === "") continue;
    else if (parameter.in === "query") query.append(parameter.name, input.value);
    else if (parameter.in === "header") headers[parameter.name] = input.value;
  }
  const text = query.toString();
  return { url: text ? `${url}?${text}` : url, headers };
}

// An answer that never ends (text/event-stream) is shown as it comes.
async function show(response, output) {
  const head = [...response.headers].map(([name, value]) => `${name}: ${value}`).join("\n");
  output.textContent = `${response.status} ${response.statusText}\n${head}\n\n`;
  if (!response.body) return;
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  let body = "";
  for (let piece = await reader.read(); !piece.done && body.length < 1e6; piece = await reader.read()) {
    body += decoder.decode(piece.value, { stream: true });
    output.textContent = `${response.status} ${response.statusText}\n${head}\n\n${body}`;
  }
  try {
    output.textContent = `${response.status} ${response.statusText}\n${head}\n\n${JSON.stringify(JSON.parse(body), null, 2)}`;
  } catch {
    // Not JSON: it stays as it came.
  }
}

function tryIt(method, path, operation, fields) {
  const box = make("div");
  const types = Object.keys((operation.requestBody || {}).content || {});
  const body = types.length ? make("textarea", undefined, { "aria-label": "body", placeholder: types.join(", ") }) : null;
  if (body) box.append(body);
  const send = make("button", "Send", { type: "button" });
  const stop = make("button", "Stop", { type: "button", hidden: "" });
  const output = make("pre");
  let under = null;
  stop.addEventListener("click", () => under && under.abort());
  send.addEventListener("click", async () => {
    under = new AbortController();
    stop.hidden = false;
    const { url, headers } = request(path, fields);
    const options = { method: method.toUpperCase(), headers, signal: under.signal };
    if (body && body.value) {
      options.body = body.value;
      headers["Content-Type"] = types[0];
    }
    try {
      await show(await fetch(url, options), output);
    } catch (error) {
      output.textContent += `\n${error.message}`;
    }
    stop.hidden = true;
  });
  box.append(send, stop, output);
  return box;
}

function operationBox(method, path, operation) {
  const box = make("details");
  const title = make("summary");
  title.append(make("span", method.toUpperCase(), { class: "method" }), make("code", path), make("span", ` ${operation.summary || ""}`));
  const inside = make("div", undefined, { class: "inside" });
  if (operation.description) inside.append(make("p", operation.description));
  const fields = [];
  const table = parameters(operation, fields);
  if (fields.length) inside.append(make("h4", "Parameters"), table);
  inside.append(make("h4", "Answers"), responses(operation), make("h4", "Try"), tryIt(method, path, operation, fields));
  box.append(title, inside);
  return box;
}

async function start() {
  const main = document.getElementById("operations");
  const answer = await fetch("/openapi.json");
  const api = await answer.json();
  document.getElementById("about").textContent = `${api.info.description} Version ${api.info.version}.`;
  const groups = new Map();
  for (const [path, item] of Object.entries(api.paths)) {
    for (const method of METHODS.filter((method) => item[method])) {
      const tag = (item[method].tags || ["other"])[0];
      if (!groups.has(tag)) groups.set(tag, []);
      groups.get(tag).push(operationBox(method, path, item[method]));
    }
  }
  main.replaceChildren();
  for (const [tag, boxes] of groups) {
    main.append(make("h2", tag), ...boxes);
  }
}

start().catch((error) => {
  document.getElementById("operations").replaceChildren(make("p", `The document cannot be shown: ${error.message}`));
});
