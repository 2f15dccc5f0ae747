# A client of matfn for Julia 1.9 or newer: its standard library and the package JSON.
#
#   using .Matfn; Matfn.call("inv_root", (a = A,), (r = 4,)).outputs["x"]
#   julia matfn.jl inv_root a=A.csv r=4 --tol=1e-10 > X.csv
module Matfn

using Base64, DelimitedFiles, Downloads, JSON

"""What the service refused: `problem` has its `code`, `detail`, `hint` and `request_id`."""
struct Problem <: Exception
    problem::Dict{String,Any}
end

Base.showerror(io::IO, e::Problem) = print(io, e.problem["code"], ": ", e.problem["detail"], "; ", something(get(e.problem, "hint", nothing), ""))

"""
    call(name, inputs, params=(;); options=(;), url, key, tries=5)

Calls a function of the service, with arrays of real numbers by name, batch dimensions first. Returns `outputs`, arrays of
Float64 by name, and `certificates`, one for each matrix. Throws `Problem` where the service refuses, with the code
"unreachable" where no server answers.
"""
function call(name, inputs, params=(;); options=(;), url=get(ENV, "MATFN_URL", "http://127.0.0.1:8000"), key=get(ENV, "MATFN_API_KEY", ""), tries=5)
    body = JSON.json((inputs=map(encoded, inputs), params=finite(params), options=finite(options)))
    address = "$(rstrip(url, '/'))/v1/$name"
    unreachable(detail) = Problem(Dict("code" => "unreachable", "detail" => "$address: $detail", "hint" => "does the server run there?"))
    headers = ["Content-Type" => "application/json"]
    isempty(key) || push!(headers, "Authorization" => "Bearer $key")
    while true
        received = IOBuffer()
        response = try
            Downloads.request(address; method="POST", headers, input=IOBuffer(body), output=received)
        catch e
            throw(e isa Downloads.RequestError ? unreachable(e.message) : e)
        end
        answer = try
            JSON.parse(String(take!(received)))
        catch
            throw(unreachable("status $(response.status), without JSON"))
        end
        response.status == 200 && return (outputs=Dict(k => decoded(v) for (k, v) in answer["outputs"]), certificates=answer["certificates"])
        tries -= 1
        (tries < 1 || !haskey(answer, "retry_after_ms")) && throw(Problem(answer))
        sleep(answer["retry_after_ms"] / 1000) # every call may be repeated
    end
end

# Julia stores columns one after the other, the service rows: the dimensions go in reverse.
encoded(a::AbstractArray{<:Real}) = (
    dtype="float64", shape=size(a), data=base64encode(htol.(Float64.(permutedims(a, ndims(a):-1:1)))))

# JSON.json makes null of numbers that are not finite, which means the default, and writes matrices column by column.
finite(value) = value
finite(values::Union{NamedTuple,AbstractDict}) = Dict(name => finite(value) for (name, value) in pairs(values))
finite(values::Union{AbstractVector,Tuple}) = map(finite, values)
finite(::AbstractArray) = throw(ArgumentError("a matrix among params or options: give a vector of its rows"))
finite(value::Union{Integer,AbstractFloat}) = isfinite(value) ? value : throw(DomainError(value, "parameters and options are finite"))
finite(value::Real) = finite(Float64(value))

function decoded(tensor)
    tensor["dtype"] == "float64" || error("the answer is $(tensor["dtype"]); this client reads float64")
    shape = Tuple(Int.(tensor["shape"]))
    numbers = ltoh.(reinterpret(Float64, base64decode(tensor["data"])))
    return permutedims(reshape(numbers, reverse(shape)), length(shape):-1:1)
end

const USAGE = "usage: julia matfn.jl FUNCTION INPUT=FILE.csv ... PARAMETER=VALUE ... --OPTION=VALUE ..., such as inv_root a=A.csv r=4 --tol=1e-10"

# One line is a vector, but a single number a matrix; A.csv@2x3x3 states the shape, here of two matrices.
function read_file(text)
    path, shape = match(r"^(.+?)(?:@([0-9x]+))?$", text).captures
    rows = readdlm(path, ',', Float64) # cells that are empty or no numbers are errors
    isnothing(shape) && return size(rows, 1) > 1 || length(rows) == 1 ? rows : vec(rows)
    sizes = Tuple(parse.(Int, split(shape, 'x')))
    return permutedims(reshape(permutedims(rows), reverse(sizes)), length(sizes):-1:1)
end

function main(words...)
    (isempty(words) || '=' in words[1]) && error(USAGE)
    inputs, params, options = Dict{Symbol,Any}(), Dict{Symbol,Any}(), Dict{Symbol,Any}()
    for word in words[2:end]
        found = match(r"^(--)?([^=]+)=(.+)$", word)
        isnothing(found) && error("'$word' is not NAME=VALUE; $USAGE")
        dashes, key, v = found.captures
        if isnothing(dashes) && occursin(r"\.csv(@[0-9x]+)?$", v)
            inputs[Symbol(key)] = read_file(v)
        else
            (isnothing(dashes) ? params : options)[Symbol(key)] = something(tryparse(Int, v), tryparse(Float64, v), tryparse(Bool, v), v)
        end
    end
    outputs, certificates = call(words[1], (; inputs...), (; params...); options=(; options...))
    told = join(("$(c["outcome"]) $(c["error_estimate"])" for c in certificates), "; ")
    for (output, x) in outputs
        println(stderr, output, " ", told)
        width = ndims(x) == 0 ? 1 : size(x, ndims(x))
        isempty(x) || writedlm(stdout, permutedims(reshape(ndims(x) < 2 ? x : permutedims(x, ndims(x):-1:1), width, :)), ',')
    end
end

end

abspath(PROGRAM_FILE) == @__FILE__() && Matfn.main(ARGS...)
