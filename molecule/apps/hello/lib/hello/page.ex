defmodule Hello.Page do
  @moduledoc "The page at /: says which version and release answer, and keeps saying so."

  alias Hello.Static

  def html(facts) do
    """
    <!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8">
        <meta name="viewport" content="width=device-width, initial-scale=1">
        <title>Hello, version #{escape(facts.version)}</title>
        <link rel="stylesheet" href="#{Static.path("assets/css/app.css")}">
        <script defer src="#{Static.path("assets/js/app.js")}"></script>
      </head>
      <body>
        <h1>Hello</h1>
        <p>This page asks every second who answers. Push or roll back, and watch it change.</p>
        <dl>
          <dt>version</dt><dd id="version">#{escape(facts.version)}</dd>
          <dt>release</dt><dd id="release">#{escape(facts.release)}</dd>
          <dt>port</dt><dd id="port">#{facts.port}</dd>
          <dt>websocket</dt><dd id="socket">not open</dd>
        </dl>
      </body>
    </html>
    """
  end

  defp escape(text) do
    text |> String.replace("&", "&amp;") |> String.replace("<", "&lt;") |> String.replace("\"", "&quot;")
  end
end
