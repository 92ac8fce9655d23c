defmodule UmbrellaWeb.Handler do
  @moduledoc "The routes, as a module of OTP's own web server (:httpd)."

  require Record

  Record.defrecordp(:mod, Record.extract(:mod, from_lib: "inets/include/httpd.hrl"))

  # The name and arity that :httpd calls.
  def unquote(:do)(request) do
    {status, body} = route(to_string(mod(request, :request_uri)))
    length = body |> byte_size() |> Integer.to_charlist()
    {:proceed, [{:response, {:response, [code: status, content_length: length], [body]}}]}
  end

  defp route("/health"), do: {200, "ok"}
  defp route("/"), do: {200, UmbrellaCore.greeting()}
  defp route(_), do: {404, "not found"}
end
