// Shows the description of the API in Swagger UI or in Redoc, whichever the page has loaded, light or dark.
"use strict";

const { schema, csrf } = document.body.dataset;
const place = document.querySelector("#document");
const darkness = window.matchMedia("(prefers-color-scheme: dark)");

function showSwagger() {
  const follow = () => document.documentElement.classList.toggle("dark-mode", darkness.matches);
  follow();
  darkness.addEventListener("change", follow);
  window.SwaggerUIBundle({
    url: schema,
    domNode: place,
    deepLinking: true,
    persistAuthorization: false,
    requestInterceptor(request) {
      if (request.method && request.method !== "GET" && !request.headers.Authorization) {
        request.headers["X-CSRFToken"] = csrf; // for who is logged in and has given no key
      }
      return request;
    },
  });
}

const DARK = {
  colors: {
    primary: { main: "#c27aff" },
    text: { primary: "#d1d5dc", secondary: "#99a1af" },
    border: { dark: "#2b374a", light: "#2b374a" },
    http: { get: "#4ade80", post: "#93c5fd", delete: "#fca5a5" },
  },
  schema: { nestedBackground: "#182234", typeNameColor: "#99a1af", typeTitleColor: "#99a1af", linesColor: "#2b374a" },
  sidebar: { backgroundColor: "#182234", textColor: "#d1d5dc", activeTextColor: "#c27aff" },
  rightPanel: { backgroundColor: "#0b1220" },
  codeBlock: { backgroundColor: "#182234" },
  fab: { backgroundColor: "#182234", color: "#d1d5dc" },
};
const LIGHT = { colors: { primary: { main: "#8200db" } } };

function showRedoc() {
  const font = { fontFamily: "system-ui, sans-serif" };
  const options = { nativeScrollbars: true, hideDownloadButton: true, scrollYOffset: 0 };
  const theme = darkness.matches ? DARK : LIGHT;
  const show = () => window.Redoc.init(schema, { ...options, theme: { ...theme, typography: { ...font, headings: font } } }, place);
  show();
  darkness.addEventListener("change", () => window.location.reload());
}

if (window.SwaggerUIBundle) {
  showSwagger();
} else {
  showRedoc();
}
