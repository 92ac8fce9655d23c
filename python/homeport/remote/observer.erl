%% The node of one `deploy observer`: it has its name and cookie from here, where ps shows neither, waits until the live
%% instance has connected to it, and opens the Observer on it. It must run on every Erlang from OTP 25 on.
%%
%% Bound before: Live and Peer, the names of both nodes; Cookie.

Say = fun(Format, Words) -> io:format(standard_error, Format ++ "~n", Words) end.

case net_kernel:start([Peer, longnames]) of
    {ok, _} -> ok;
    Refused ->
        Say("error: this node cannot listen: ~tp", [Refused]),
        halt(1)
end,
erlang:set_cookie(Live, Cookie),
net_kernel:monitor_nodes(true, [{node_type, all}]),
receive {nodeup, Live, _} -> ok
after 60000 ->
    Say("error: the live instance did not connect; deploy observer tells why", []),
    halt(1)
end,
spawn(fun() ->
    net_kernel:monitor_nodes(true, [{node_type, all}]),
    receive {nodedown, Live, _} -> Say("~ts has gone", [Live]), halt(0) end
end),
Say("~ts is connected", [Live]).

case {rpc:call(Live, code, ensure_loaded, [observer_backend]), code:ensure_loaded(observer)} of
    {{error, _}, _} ->
        Say("its release is without what the Observer needs: add :runtime_tools to extra_applications in mix.exs", []);
    {_, {error, _}} ->
        Say("this Erlang is without the Observer: install it (Debian: erlang-observer), or look by rpc:call", []);
    _ ->
        %% from OTP 26 on it can be told where to look; before, it lists no node that connected by itself
        case erlang:function_exported(observer, start, 1) of
            true -> observer:start(Live);
            false ->
                observer:start(),
                Say("in the Observer: Nodes, Connect Node, ~ts", [Live])
        end
end.
