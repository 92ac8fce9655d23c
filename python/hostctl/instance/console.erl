%% The node of one `deploy console`: it waits until the live instance has connected to it, and opens IEx there.
%% The instance listens nowhere, so that the connection is made from its side.
%% It must run on every Erlang from OTP 25 on.

Live = list_to_atom(os:getenv("HOMEPORT_LIVE")).

Joined = fun
    Joined(0) -> false;
    Joined(Left) ->
        case lists:member(Live, nodes(connected)) of
            true -> true;
            false -> timer:sleep(20), Joined(Left - 1)
        end
end.

case Joined(750) of
    false ->
        io:put_chars(standard_error, "error: the live instance did not answer\n"),
        halt(1);
    true ->
        %% the instance itself has no terminal, and would answer without colours
        rpc:call(Live, application, load, [iex]),
        Colors = rpc:call(Live, application, get_env, [iex, colors, []]),
        lists:keymember(enabled, 1, Colors) orelse
            rpc:call(Live, application, set_env, [iex, colors, [{enabled, true} | Colors]]),
        code:ensure_loaded(shell),
        case erlang:function_exported(shell, start_interactive, 1) of
            true -> ok = shell:start_interactive({Live, {'Elixir.IEx', start, []}});
            false -> user_drv:start(['tty_sl -c -e', {Live, 'Elixir.IEx', start, []}])
        end,
        spawn(fun() ->
            net_kernel:monitor_nodes(true, [{node_type, all}]),
            receive {nodedown, Live, _} ->
                io:put_chars(standard_error, "\r\nthe instance has ended; deploy console opens the one that is live\r\n"),
                halt(1)
            end
        end)
end.
