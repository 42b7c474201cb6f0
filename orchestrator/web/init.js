"use strict";

SwaggerUIBundle({
  dom_id: "#swagger-ui",
  url: "openapi.json", // as seen from the page, so that a prefix of a proxy stays in front
  deepLinking: true,
  validatorUrl: null, // the default shows the description to a server of somebody else
});
