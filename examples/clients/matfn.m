% A client of matfn for GNU Octave 7 or newer and for MATLAB, with the program curl and a POSIX shell.
%
%   answer = matfn('inv_root', struct('a', A), struct('r', 4)); answer.outputs.x
%   answer = matfn('tri_solve', struct('t', T, 'b', struct('value', b, 'shape', [2 2 1])));
%
% inputs are matrices and arrays of real numbers by name, batch dimensions first. Trailing dimensions of 1 do not exist here: a
% struct with value and shape states them, and whether a column is a vector, shape 3, or a matrix, shape [3 1]. The answer has
% the outputs by name and one certificate for each matrix. What the service refuses is an error whose identifier has the code,
% such as matfn:not_positive; a server that does not answer is matfn:unreachable. The address is MATFN_URL of the environment,
% the key MATFN_API_KEY.
function answer = matfn(name, inputs, params, options)
  if nargin < 3, params = struct(); end
  if nargin < 4, options = struct(); end
  if isempty(regexp(name, '^\w+(/\w+)?$', 'once')), error('matfn:unknown_function', 'no function is called %s', name); end
  call = ['{"inputs":' jsonencode(all_encoded(inputs)) ',"params":' written(params) ',"options":' written(options) '}'];
  for tries = 1:5
    answer = posted(['/v1/' name], call);
    if ~isfield(answer, 'retry_after_ms'), break; end
    pause(answer.retry_after_ms / 1000); % every call may be repeated
  end
  if isfield(answer, 'code')
    hint = '';
    if isfield(answer, 'hint') && ~isempty(answer.hint), hint = ['; ' answer.hint]; end
    error(['matfn:' answer.code], '%s: %s%s', answer.code, answer.detail, hint);
  end
  names = fieldnames(answer.outputs);
  for i = 1:numel(names), answer.outputs.(names{i}) = decoded(answer.outputs.(names{i})); end
end

function answer = posted(path, text)
  url = getenv('MATFN_URL');
  if isempty(url), url = 'http://127.0.0.1:8000'; end
  url = [regexprep(url, '/+$', '') path];
  body = tempname();
  file = fopen(body, 'w');
  fwrite(file, text);
  fclose(file);
  % the key is read by the shell, so that no list of processes shows it
  key = 'printf ''header = "Authorization: Bearer %s"\n'' "$MATFN_API_KEY" | ';
  [status, text] = system([key 'curl --silent --show-error --globoff --config - --header "Content-Type: application/json"' ...
    ' --data-binary ' quoted(['@' body]) ' --url ' quoted(url) ' 2>&1']);
  delete(body);
  if status ~= 0, error('matfn:unreachable', 'unreachable: %s: %s', url, strtrim(text)); end
  try
    answer = jsondecode(text);
  catch
    error('matfn:unreachable', 'unreachable: %s answered without JSON: %s', url, text(1:min(end, 200)));
  end
end

function text = quoted(text) % as one word of the shell
  text = ['''' strrep(text, '''', '''\''''') ''''];
end

% Numbers have all seventeen digits: jsonencode makes 0 of 1e-17 and null of NaN.
function text = written(value)
  if isstruct(value)
    names = fieldnames(value);
    parts = cellfun(@(name) [jsonencode(name) ':' written(value.(name))], names', 'UniformOutput', false);
    text = ['{' strjoin(parts, ',') '}'];
  elseif iscell(value)
    text = ['[' strjoin(cellfun(@written, value(:)', 'UniformOutput', false), ',') ']'];
  elseif ~isnumeric(value)
    text = jsonencode(value);
  elseif ~isreal(value) || ~all(isfinite(value(:))) || ndims(value) > 2
    error('matfn:invalid_parameter', 'a parameter or option is not a list of finite real numbers');
  elseif isscalar(value)
    text = sprintf('%.17g', value);
  elseif isvector(value) || isempty(value)
    text = written(num2cell(value));
  else
    text = written(num2cell(value, 2)); % a list of rows
  end
end

function tensors = all_encoded(inputs)
  tensors = struct();
  names = fieldnames(inputs);
  sizes = cellfun(@(name) shape_of(name, inputs.(name)), names, 'UniformOutput', false);
  depth = max([0; cellfun(@numel, sizes)]);
  for i = 1:numel(names)
    value = inputs.(names{i});
    stated = isstruct(value);
    if stated, value = value.value; end
    if ~stated && numel(sizes{i}) < depth
      ambiguous(names{i}, value, sprintf('beside an input of %d dimensions', depth), [sizes{i} ones(1, depth - numel(sizes{i}))], sizes{i});
    end
    tensors.(names{i}) = encoded(value, sizes{i});
  end
end

function shape = shape_of(name, value)
  shape = size(value);
  if isstruct(value)
    if ~all(isfield(value, {'value', 'shape'})), error('matfn:invalid_shape', 'input %s is a struct without value and shape', name); end
    shape = double(value.shape(:)');
    value = value.value;
    own = size(value);
    if ~isequal(shape(shape ~= 1), own(own ~= 1)) % dimensions of 1 may differ
      error('matfn:invalid_shape', 'input %s is %s, not %s', name, mat2str(own), mat2str(shape));
    end
  elseif iscolumn(value) && ~isscalar(value)
    ambiguous(name, value, 'a column', numel(value), shape);
  end
  if ~(isnumeric(value) || islogical(value)) || ~isreal(value)
    error('matfn:invalid_dtype', 'input %s is not an array of real numbers', name);
  end
end

function ambiguous(name, value, what, first, second)
  error('matfn:ambiguous_shape', 'input %s is %s, %s: state its shape, struct(''value'', %s, ''shape'', S) where S is %s or %s', ...
    name, mat2str(size(value)), what, name, mat2str(first), mat2str(second));
end

% Columns are stored one after the other here, rows on the wire: the dimensions go in reverse.
function tensor = encoded(value, shape)
  rows = permute(reshape(full(double(value)), [shape 1 1]), max(numel(shape), 2):-1:1);
  data = '';
  if ~isempty(rows), data = matlab.net.base64encode(typecast(rows(:)', 'uint8')); end
  tensor = struct('dtype', 'float64', 'shape', {num2cell(shape)}, 'data', data);
end

function value = decoded(tensor)
  if ~strcmp(tensor.dtype, 'float64'), error('matfn:invalid_dtype', 'the answer is %s; this client reads float64', tensor.dtype); end
  value = zeros(1, 0);
  if ~isempty(tensor.data), value = typecast(matlab.net.base64decode(tensor.data), 'double'); end
  shape = tensor.shape(:)';
  value = reshape(value, [fliplr(shape) 1 1]);
  if numel(shape) > 1
    value = permute(value, numel(shape):-1:1);
  end
end
